"""The guest image: its recipe, from Debian packages and PyPI wheels."""
