"""Public file-system suites, run in a container and on a bind mount, beside runc."""
