"""Commands of README.md and docs/ that need a containerd with the runtime are run as they stand.

A block is one shell script and leaves nothing behind.  What else is in the documents:
tests/unit/test_docs.py.
"""

import subprocess
import sys

import pytest

from tests.documents import PLACEHOLDERS, TREE, Block, all_blocks
from tests.e2e.ctr import TIMEOUT_S

BLOCKS = [block for block in all_blocks() if block.kind == "e2e"]


def run_script(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-eu", "-c", script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=TREE,
    )


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_of_commands_does_what_it_says(block: Block) -> None:
    script = block.text
    for word, ours in PLACEHOLDERS.items():
        script = script.replace(word, ours)
    done = run_script(script)
    assert done.returncode == 0, f"{script}{done.stdout}{done.stderr}"


def test_the_demo_of_make_run_proves_that_the_kernel_is_another_one() -> None:
    done = subprocess.run(
        [sys.executable, "tests/testhost/demo.py"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=TREE,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "proof: guest kernel" in done.stdout
