"""A machine's end, whatever the reason, against vmm processes that are small scripts."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proto.control import Direction
from shim.config import Config
from shim.errors import GuestFault, HostResource
from shim.host.reaper import Reaper
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.launch import check_image, launch_machine
from shim.machine.machine import SandboxMachine
from shim.machine.request import LaunchRequest
from shim.machine.size import MachineSize
from shim.machine.streams import make_token
from shim.machine.templates.identity import MachineClass
from tests.fakes.script import CONTROL
from tests.fakes.shares import FakeShares

PRELUDE = CONTROL + "boot, listeners = receive()\n"
BOOTED = "send(id=boot['id'], result={'timings_us': {}})\n"
WAIT = "while True: receive()\n"

Start = Callable[..., SandboxMachine]
CLASS = MachineClass(MachineSize(1, 1 << 26), 0)


class SilentClient:
    """An agent that never answers, without gRPC and its threads."""

    def __init__(self, agent_socket: str, events_socket: str, *, stays_open: bool) -> None:
        assert not stays_open

    async def wait_info(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        return


@pytest.fixture
def sandbox(tmp_path: Path) -> SandboxDirectory:
    sandbox = SandboxDirectory(str(tmp_path / "s"))
    sandbox.create(SandboxKey("c", "n", "i"))
    return sandbox


@pytest.fixture
async def start(
    tmp_path: Path, sandbox: SandboxDirectory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    monkeypatch.setattr("shim.machine.machine._import_client", lambda: SilentClient)
    (tmp_path / "root").mkdir()
    (tmp_path / "vmlinux").touch()
    reaper = Reaper(asyncio.get_running_loop())
    started: list[SandboxMachine] = []
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)

    def start_machine(script: str, timeout_s: float = 30) -> SandboxMachine:
        command = (sys.executable, "-c", PRELUDE + script)
        config = Config(image_dir=str(tmp_path), vmm_command=command, agent_timeout_s=timeout_s)
        request = LaunchRequest(config, sandbox, CLASS, log)
        launched = launch_machine(request, make_shares=FakeShares)
        started.append(SandboxMachine(launched, reaper))
        return started[-1]

    yield start_machine
    for machine in started:
        await machine.stop()
        with contextlib.suppress(asyncio.CancelledError, GuestFault, HostResource):
            await machine._ready
    reaper.close()
    os.close(log)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_refused_boot_is_reported_as_it_was(start: Start) -> None:
    machine = start(
        "send(id=boot['id'], error={'category': 'HostResource', 'message': '/dev/kvm: none'})\n"
        + WAIT
    )
    with pytest.raises(HostResource, match="/dev/kvm: none"):
        await machine.wait_agent()


async def test_a_vmm_that_dies_at_once_ends_the_wait(start: Start) -> None:
    machine = start("sys.exit(3)")
    with pytest.raises(GuestFault, match="ended with status 3"):
        await machine.wait_agent()
    assert (await machine.ended).exit_status == 255


async def test_a_killed_vmm_means_137(start: Start) -> None:
    machine = start(BOOTED + WAIT)
    os.kill(machine.pid, signal.SIGKILL)
    end = await machine.ended
    assert (end.exit_status, "signal 9" in end.reason) == (137, True)


async def test_a_guest_that_stops_is_reported_with_its_reason_and_last_lines(
    start: Start, sandbox: SandboxDirectory
) -> None:
    Path(sandbox.console).write_bytes(b"booting\r\nKernel panic - not syncing: no\x1b[0m init\r\n")
    machine = start(
        BOOTED + "send(event='stopped', args={'reason': 'reset', 'detail': 'port'})\n" + WAIT
    )
    with pytest.raises(GuestFault) as caught:
        await machine.wait_agent()
    text = str(caught.value)
    assert "the microVM stopped: reset (port)" in text
    assert "Kernel panic - not syncing: no" in text
    assert "\x1b" not in text


async def test_a_guest_that_stops_without_output_in_flight_ends_its_machine_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.machine.machine.STOPPED_GRACE_S", 1000)
    machine = start(
        BOOTED + "send(event='stopped', args={'reason': 'reset', 'detail': ''})\n" + "receive()\n"
    )
    assert "stopped: reset" in (await asyncio.wait_for(machine.ended, 20)).reason


async def test_an_agent_that_never_answers_is_given_up(
    start: Start, sandbox: SandboxDirectory
) -> None:
    Path(sandbox.console).write_text("stuck here\n")
    machine = start(WAIT, timeout_s=0.3)
    with pytest.raises(GuestFault, match=r"did not answer within 0.3 s.*stuck here"):
        await machine.wait_agent()


async def test_a_vmm_that_never_boots_is_given_up_and_its_end_still_reported(start: Start) -> None:
    machine = start(WAIT, timeout_s=0.3)
    with pytest.raises(GuestFault, match=r"did not boot the machine within 0.3 s"):
        await asyncio.wait_for(machine.wait_booted(), 20)
    with pytest.raises(GuestFault, match=r"did not answer within 0.3 s"):
        await machine.wait_agent()
    os.kill(machine.pid, signal.SIGKILL)
    assert (await asyncio.wait_for(machine.ended, 20)).exit_status == 137


async def test_a_vmm_that_ends_right_after_it_has_booted_is_told_with_its_reason(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adopt_too_late(shares: FakeShares, vmm: int) -> None:
        os.kill(vmm, signal.SIGKILL)
        raise HostResource(f"/proc/{vmm}: No such file or directory")

    monkeypatch.setattr(FakeShares, "adopt", adopt_too_late)
    machine = start(BOOTED + WAIT)
    with pytest.raises(GuestFault, match="ended with signal 9"):
        await machine.wait_booted()


async def test_work_in_the_guest_ends_with_it(start: Start) -> None:
    machine = start(BOOTED + WAIT)
    work = asyncio.ensure_future(machine.until_end(asyncio.Event().wait()))
    os.kill(machine.pid, signal.SIGKILL)
    with pytest.raises(GuestFault, match="ended with signal 9"):
        await work


async def test_stop_is_answered_and_reaps_and_can_be_repeated(start: Start) -> None:
    machine = start(
        BOOTED + "request, _ = receive()\nsend(id=request['id'], result={})\nsys.exit(0)"
    )
    await machine.stop()
    await machine.stop()
    assert not Path(f"/proc/{machine.pid}").exists()
    assert "was stopped" in (await machine.ended).reason


async def test_a_vmm_that_ignores_everything_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.machine.machine.STOP_TIMEOUT_S", 0.2)
    machine = start(BOOTED + "while True: time.sleep(100)")
    await machine.wait_booted()
    await machine.stop()
    assert (await machine.ended).exit_status == 137


async def test_a_stream_is_closed_by_its_event_or_by_the_machines_end(start: Start) -> None:
    machine = start(
        BOOTED
        + "request, fds = receive()\n"
        + "send(id=request['id'], result={})\n"
        + "os.write(fds[0], request['args']['token'].encode())\n"
        + "send(event='stream_closed', args={'stream': request['args']['stream'],"
        + " 'bytes_moved': 1, 'error': 0})\n"
        + "receive()\n"
        + WAIT
    )
    reader, writer = os.pipe()
    token = make_token()
    first = machine.open_stream(writer, Direction.FROM_GUEST, token)
    assert await asyncio.wait_for(first.closed, 20) == 0
    assert os.read(reader, 100).decode() == token
    second = machine.open_stream(writer, Direction.FROM_GUEST, make_token())
    os.kill(machine.pid, signal.SIGKILL)
    assert await asyncio.wait_for(second.closed, 20) != 0
    os.close(reader)
    os.close(writer)


async def test_a_stream_that_the_vmm_refuses_is_closed_with_an_error(start: Start) -> None:
    refusal = "{'category': 'HostResource', 'message': 'too many streams'}"
    machine = start(BOOTED + f"r, _ = receive()\nsend(id=r['id'], error={refusal})\n" + WAIT)
    reader, writer = os.pipe()
    stream = machine.open_stream(writer, Direction.FROM_GUEST, make_token())
    assert await asyncio.wait_for(stream.closed, 20) != 0
    os.close(reader)
    os.close(writer)


DEAF = """\
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True: time.sleep(100)
"""
SEND = "control.send(%r)\n"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (SEND % b"{", "no JSON: b'{'"),
        (SEND % (b"[" * 65536), "no JSON: b'[["),
        (SEND % b'{"id": 1, "result": 3}', "result is no object"),
        ("send(id=99, result={})\n", "an answer to request 99, which is not open"),
        (
            "send(event='stream_closed', args={'stream': 9, 'bytes_moved': 0, 'error': 0})\n",
            "the end of stream 9, which is not open",
        ),
        (
            "import contextlib\n"
            "with contextlib.suppress(OSError):\n"
            "    while True: control.send(b'nonsense')\n",
            "no JSON: b'nonsense'",
        ),
    ],
)
async def test_a_vmm_that_breaks_the_protocol_is_killed_with_one_line(
    start: Start, caplog: pytest.LogCaptureFixture, said: str, told: str
) -> None:
    machine = start(BOOTED + said + DEAF)
    with pytest.raises(GuestFault, match="broke the protocol of its control socket"):
        await machine.wait_agent()
    end = await machine.ended
    assert (end.exit_status, told in end.reason) == (137, True)
    assert [record.getMessage() for record in caplog.records] == [end.reason]


async def test_a_vmm_that_tells_its_end_twice_while_output_is_in_flight_is_killed(
    start: Start,
) -> None:
    stopped = "send(event='stopped', args={'reason': 'reset', 'detail': ''})\n"
    machine = start(BOOTED + "receive()\n" + stopped * 2 + DEAF)
    reader, writer = os.pipe()
    machine.open_stream(writer, Direction.FROM_GUEST, make_token())
    end = await asyncio.wait_for(machine.ended, 20)
    assert (end.exit_status, "the machine's end for a second time" in end.reason) == (137, True)
    os.close(reader)
    os.close(writer)


async def test_a_vmm_that_outlives_its_socket_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.machine.machine.STOP_TIMEOUT_S", 0.2)
    machine = start(BOOTED + "control.close()\n" + DEAF)
    assert (await asyncio.wait_for(machine.ended, 20)).exit_status == 137


async def test_a_vmm_that_tells_its_end_and_stays_is_killed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.machine.machine.STOP_TIMEOUT_S", 0.2)
    monkeypatch.setattr("shim.machine.machine.STOPPED_GRACE_S", 0.1)
    stopped = "send(event='stopped', args={'reason': 'poweroff', 'detail': ''})\n"
    machine = start(BOOTED + stopped + DEAF)
    end = await asyncio.wait_for(machine.ended, 20)
    assert end.reason == "the microVM stopped: poweroff"


def test_a_missing_image_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    config = Config(image_dir=str(tmp_path))
    with pytest.raises(HostResource, match=r"vmlinux: no guest kernel there; `sampan image build`"):
        check_image(config)
    (tmp_path / "vmlinux").touch()
    with pytest.raises(HostResource, match=r"root: no guest image there"):
        check_image(config)


async def test_a_machine_that_is_given_up_ends_with_the_reason(start: Start) -> None:
    machine = start(BOOTED + DEAF)
    work = asyncio.ensure_future(machine.until_end(asyncio.Event().wait()))
    await machine.wait_booted()
    machine.give_up("container 'c1' does not end")
    with pytest.raises(GuestFault, match="the microVM was killed: container 'c1' does not end"):
        await work
    assert (await machine.ended).exit_status == 137
