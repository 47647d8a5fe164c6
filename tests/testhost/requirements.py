"""Chooses from the tree's lock files what the test host's venv needs."""

from pathlib import Path

# The tests' own needs; linters and generators stay outside.
FROM_DEVELOPMENT = """
pytest pytest-asyncio pytest-timeout pluggy iniconfig packaging pygments setuptools wheel
typing-extensions
""".split()


def select_requirements(tree: Path) -> str:
    """The locked runtime packages and, of the development ones, what tests need."""
    runtime = split_requirements((tree / "requirements" / "runtime.txt").read_text())
    development = split_requirements((tree / "requirements" / "dev.txt").read_text())
    chosen = {name: development[name] for name in FROM_DEVELOPMENT if name in development}
    needed = runtime | chosen
    return "".join(needed[name] for name in sorted(needed))


def split_requirements(text: str) -> dict[str, str]:
    """The entries of a lock file by package name; an entry may go over several lines."""
    entries: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if not line[0].isspace():
            name = line.split("==")[0].strip().lower()
        entries[name] = entries.get(name, "") + line
    return entries
