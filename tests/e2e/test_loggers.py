"""Output that goes to a file or to a logging program instead of to a client."""

from pathlib import Path

from tests.e2e.ctr import Ctr

LOGGER = """\
#!/bin/sh
# containerd's logging programs: 3 and 4 are stdout and stderr, closing 5 says "ready".
trap '' TERM
exec 5>&-
echo "$CONTAINER_NAMESPACE/$CONTAINER_ID" >"$2"
{ cat <&3 & cat <&4 & wait; } >>"$2"
echo end >>"$2"
"""
SCRIPT = "echo out; echo err >&2; head -c 1000000 /dev/zero | tr '\\0' x; echo"


def run(ctr: Ctr, uri: str) -> str:
    name = ctr.start("sh", "-c", SCRIPT, flags=("--log-uri", uri))
    ctr.wait_status(name, "STOPPED")
    ctr.remove(name)
    return name


def test_a_file_gets_both_streams_and_keeps_what_it_had(ctr: Ctr, tmp_path: Path) -> None:
    log = tmp_path / "made" / "log"
    log.parent.mkdir()
    log.write_text("before\n")
    run(ctr, f"file://{log}")
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert sorted(map(len, lines[1:])) == [3, 3, 1_000_000]
    assert {"out", "err"} < set(lines)


def test_a_logging_program_gets_everything_and_then_ends(ctr: Ctr, tmp_path: Path) -> None:
    program, log = tmp_path / "logger", tmp_path / "log"
    program.write_text(LOGGER)
    program.chmod(0o755)
    name = run(ctr, f"binary://{program}?out={log}")
    lines = log.read_text().splitlines()
    assert lines[0] == f"default/{name}"
    assert {"out", "err"} < set(lines)
    assert sorted(map(len, lines[1:-1])) == [3, 3, 1_000_000]
    assert lines[-1] == "end"
