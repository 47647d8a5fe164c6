"""Builds the guest image from Debian packages and PyPI wheels."""
