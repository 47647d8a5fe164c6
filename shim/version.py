"""sampan's version: written here and nowhere else.

pyproject.toml reads it without importing; `start` imports it, so nothing is imported here.
"""

VERSION = "0.2.0"
