"""Which process has which end of which FIFO open; files and logging programs."""

import asyncio
import os
import select
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proto.control import Direction
from shim.containerd.logger import LoggerSpec, LoggingProgram, parse_logger, start_logger
from shim.containerd.stdio import NamedStreams, StdioPaths, open_output
from shim.errors import HostResource, InvalidArgument
from shim.host.fds import OwnedFd
from shim.host.reaper import Reaper
from shim.machine.streams import Stream
from shim.sandbox.stdio import ProcessStdio
from tests.fakes.guest import FakeMachine


class KeepingMachine(FakeMachine):
    """Keeps a copy of each descriptor, as a vmm does."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, OwnedFd] = {}

    def open_stream(self, descriptor: int, direction: Direction, token: str) -> Stream:
        self.kept[token] = OwnedFd(os.dup(descriptor))
        return super().open_stream(descriptor, direction, token)

    def close_kept(self) -> None:
        for descriptor in self.kept.values():
            descriptor.close()


def no_logger(spec: LoggerSpec) -> LoggingProgram:
    raise AssertionError(f"no program was asked for: {spec}")


def make_stdio(
    paths: StdioPaths, start: Callable[[LoggerSpec], LoggingProgram] = no_logger
) -> ProcessStdio:
    return ProcessStdio(NamedStreams(paths, start))


@pytest.fixture
async def machine() -> AsyncIterator[KeepingMachine]:
    machine = KeepingMachine()
    yield machine
    machine.close_kept()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def at_eof(descriptor: int) -> bool:
    """Whether the last writer of the FIFO has closed it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


async def test_streams_without_a_path_have_no_token(machine: KeepingMachine) -> None:
    stdio = make_stdio(StdioPaths(False, "", "", ""))
    await stdio.open()
    tokens = stdio.join(machine)
    assert (tokens.stdin, tokens.stdout, tokens.stderr) == ("", "", "")
    stdio.join_input(machine)
    assert machine.kept == {}


async def test_output_fifo_opens_without_a_reader_and_survives_one_that_leaves(
    machine: KeepingMachine, fifo: Path
) -> None:
    stdio = make_stdio(StdioPaths(False, "", str(fifo), ""))
    await stdio.open()
    tokens = stdio.join(machine)
    output = machine.kept[tokens.stdout].fileno()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.close(reader)
    assert os.write(output, b"kept") == 4
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 10) == b"kept"
    os.close(reader)


async def test_the_reader_sees_the_end_when_the_machine_closes(
    machine: KeepingMachine, fifo: Path
) -> None:
    """The shim must keep no end open once the descriptor is handed over."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    stdio = make_stdio(StdioPaths(False, "", str(fifo), ""))
    await stdio.open()
    token = stdio.join(machine).stdout
    assert not at_eof(reader)
    machine.kept[token].close()
    assert at_eof(reader)
    os.close(reader)


async def test_a_client_that_detaches_is_no_end_of_input_close_io_is(
    machine: KeepingMachine, fifo: Path
) -> None:
    stdio = make_stdio(StdioPaths(False, str(fifo), "", ""))
    await stdio.open()
    token = stdio.join(machine).stdin
    stdio.join_input(machine)
    guest = machine.kept[token].fileno()
    client = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(client, b"x")
    os.close(client)
    assert os.read(guest, 10) == b"x"
    assert not at_eof(guest)
    stdio.close_stdin()
    assert at_eof(guest)
    assert os.read(guest, 10) == b""


async def test_input_has_no_reader_before_the_start(machine: KeepingMachine, fifo: Path) -> None:
    """A client's open and first write wait for it: see shim/containerd/stdio.py."""
    stdio = make_stdio(StdioPaths(False, str(fifo), "", ""))
    await stdio.open()
    stdio.join(machine)
    with pytest.raises(OSError, match="No such device"):
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)


async def test_close_io_before_the_start_is_remembered(machine: KeepingMachine, fifo: Path) -> None:
    stdio = make_stdio(StdioPaths(False, str(fifo), "", ""))
    await stdio.open()
    token = stdio.join(machine).stdin
    stdio.close_stdin()
    stdio.join_input(machine)
    assert os.read(machine.kept[token].fileno(), 1) == b""


async def test_a_terminal_has_no_stderr(machine: KeepingMachine, fifo: Path) -> None:
    stdio = make_stdio(StdioPaths(True, "", str(fifo), str(fifo)))
    await stdio.open()
    tokens = stdio.join(machine)
    assert (tokens.terminal, tokens.stderr) == (True, "")
    assert len(machine.kept) == 1


async def test_drained_means_every_output_and_no_input(machine: KeepingMachine, fifo: Path) -> None:
    stdio = ProcessStdio(
        NamedStreams(StdioPaths(False, str(fifo), str(fifo), str(fifo)), no_logger)
    )
    await stdio.open()
    stdio.join(machine)
    stdio.join_input(machine)
    outputs = [s for direction, _, s in machine.streams if direction is Direction.FROM_GUEST]
    assert len(outputs) == 2
    outputs[0].closed.set_result(0)
    assert not await stdio.wait_drained(0)
    outputs[1].closed.set_result(0)
    assert await stdio.wait_drained(0)
    stdio.close()


async def test_what_was_opened_is_closed_when_the_rest_cannot_be(
    fifo: Path, tmp_path: Path
) -> None:
    stdio = ProcessStdio(
        NamedStreams(StdioPaths(False, "", str(fifo), str(tmp_path / "none")), no_logger)
    )
    with pytest.raises(InvalidArgument, match="stderr: .*none: No such file"):
        await stdio.open()


def test_file_outputs_append_and_make_their_directories(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "log"
    for text in (b"one ", b"two"):
        output = open_output("stdout", f"file://{path}")
        os.write(output.fileno(), text)
        output.close()
    assert path.read_bytes() == b"one two"
    assert stat.S_IMODE(path.stat().st_mode) & 0o777 == 0o644 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_plain_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old ")
    output = open_output("stdout", str(path))
    os.write(output.fileno(), b"new")
    output.close()
    assert path.read_bytes() == b"old new"


def test_an_unknown_scheme_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="'ttrpc\\+unix' is not supported"):
        open_output("stdout", "ttrpc+unix:///x?streaming_id=1")


def test_a_logging_programs_arguments() -> None:
    spec = parse_logger("binary:///usr/bin/log?id=7&verbose=&path=%2Fvar%2Flog")
    assert spec == LoggerSpec("/usr/bin/log", ("id", "7", "verbose", "path", "/var/log"))
    with pytest.raises(InvalidArgument, match="binary:///path"):
        parse_logger("binary://host/path")


LOGGER = """\
#!{python}
import os, sys
if sys.argv[1:] != ["key", "value"]: sys.exit(3)
os.write(5, b"r")
os.close(5)
out, err = open(3, "rb").read(), open(4, "rb").read()
with open("{result}", "wb") as file:
    file.write(out + b"|" + err + b"|" + os.environ["CONTAINER_ID"].encode())
    file.write(b"|" + os.environ["CONTAINER_NAMESPACE"].encode())
"""


async def test_a_logging_program_gets_its_three_descriptors(tmp_path: Path) -> None:
    program, result = tmp_path / "logger", tmp_path / "result"
    program.write_text(LOGGER.format(python=sys.executable, result=result))
    program.chmod(0o755)
    machine, reaper = KeepingMachine(), Reaper(asyncio.get_running_loop())
    loggers: list[LoggingProgram] = []

    def start(spec: LoggerSpec) -> LoggingProgram:
        loggers.append(start_logger(spec, "c1", "ns", reaper))
        return loggers[0]

    uri = f"binary://{program}?key=value"
    stdio = make_stdio(StdioPaths(False, "", uri, uri), start)
    await stdio.open()
    tokens = stdio.join(machine)
    os.write(machine.kept[tokens.stdout].fileno(), b"out")
    os.write(machine.kept[tokens.stderr].fileno(), b"err")
    machine.close_kept()
    stdio.close()
    assert await asyncio.wait_for(loggers[0]._ended, 20) == 0
    assert result.read_bytes() == b"out|err|c1|ns"
    assert loggers[0]._closing is not None
    await asyncio.wait_for(loggers[0]._closing, 20)
    reaper.close()


async def test_a_logging_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    reaper = Reaper(asyncio.get_running_loop())
    with pytest.raises(HostResource, match="/no/such/logger: No such file"):
        start_logger(LoggerSpec("/no/such/logger", ()), "c1", "ns", reaper)
    reaper.close()
