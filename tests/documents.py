"""README.md and docs/ as the tests read them: their code blocks, tables and links.

Every code block says in its first line what it is and how it is tested:

    ```sh e2e               run as root in the test host: tests/e2e/test_docs.py
    ```sh shape: REASON     not run, for this reason; its programs, targets and flags exist
    ```yaml config          a configuration file: it is parsed
    ```yaml kubernetes      names a runtime handler that the toml blocks define
    ```toml containerd      containerd's configuration, with our runtime type in it
    ```toml podman          podman's configuration, with our program in it
    ```text                 no commands: a drawing, output, a layout

Words in capitals in a block are the reader's to replace; PLACEHOLDERS has the tests' own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.ctr import BUSYBOX

TREE: Final = Path(__file__).resolve().parents[1]
FENCE: Final = re.compile(r"^```(.*)$")
PLACEHOLDERS: Final = {"IMAGE": BUSYBOX}
KINDS: Final = {
    "sh": ("e2e", "shape"),
    "yaml": ("config", "kubernetes"),
    "toml": ("containerd", "podman"),
    "json": ("docker",),
    "text": ("",),
}


@dataclass(frozen=True)
class Block:
    """One fenced block; `kind` and `reason` are the rest of its first line."""

    document: Path
    line: int
    language: str
    kind: str
    reason: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(TREE)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """One a line: what ends in a backslash goes on in the next."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def list_documents() -> list[Path]:
    return [*sorted(TREE.glob("*.md")), *sorted((TREE / "docs").glob("*.md"))]


def read_blocks(document: Path) -> Iterator[Block]:
    opened: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, body = (number, fence[1]), []
        elif opened is not None and fence:
            yield make_block(document, *opened, "\n".join(body) + "\n")
            opened = None
        elif opened is not None:
            body.append(line)
    assert opened is None, f"{document}:{opened}: a block that does not end"


def make_block(document: Path, line: int, info: str, text: str) -> Block:
    language, _, rest = info.partition(" ")
    kind, _, reason = rest.partition(":")
    return Block(document, line, language, kind, reason.strip(), text)


def all_blocks() -> list[Block]:
    return [block for document in list_documents() for block in read_blocks(document)]


def read_prose(document: Path) -> str:
    """All but the code blocks."""
    lines, inside = [], False
    for line in document.read_text().splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return "\n".join(lines) + "\n"


def read_table(document: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below the heading, without its first two lines."""
    text = document.read_text().split(f"\n{heading}\n", 1)[1].splitlines()
    first = next(number for number, line in enumerate(text) if line.startswith("|"))
    rows = []
    for line in text[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def list_anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", read_prose(document), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
