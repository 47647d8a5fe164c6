"""Programs that the build runs: a missing or failed one is reported once, with the reason."""

import pytest

from image import tools
from image.errors import ToolError
from image.tools import require_tools, run_tool, shorten_stderr


def test_every_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(ToolError, match=r"missing: dpkg-deb, zstd; .*install dpkg zstd"):
        require_tools(["dpkg-deb", "zstd"])


def test_a_failure_carries_the_status_and_the_complaint() -> None:
    with pytest.raises(ToolError, match=r"sh failed \(3\): no such mirror"):
        run_tool(["sh", "-c", "echo no such mirror >&2; exit 3"])


def test_a_program_that_cannot_start_is_named() -> None:
    with pytest.raises(ToolError, match="/nonexistent/apt-get: No such file"):
        run_tool(["/nonexistent/apt-get"])


def test_errors_are_picked_out_of_chatter() -> None:
    stderr = b"W: warning\nE: Unable to locate package crun\nDone\n"
    assert shorten_stderr(stderr) == "E: Unable to locate package crun"
