"""sampan's version, written once: pyproject.toml and every program read it here."""

VERSION = "0.1.0"
