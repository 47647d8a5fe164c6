"""Containers driven at random for a given time, against a model of what each call answers."""
