"""What clients do with a runtime: each call under runc and under sampan, compared."""
