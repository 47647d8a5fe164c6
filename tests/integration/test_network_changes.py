"""A network that changes while its container runs: interfaces that come and go (needs root)."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from proto.control import Direction
from proto.network import GuestNic
from shim.host.netns import entered, list_links, make_namespace
from shim.machine.directory import SandboxDirectory
from shim.machine.link_watch import LinkWatch
from shim.machine.names import ADDRESS
from shim.machine.namespace import PreparedNetwork
from shim.machine.network import SandboxNetwork
from shim.machine.streams import Stream
from tests.integration.test_network import ip

DEADLINE_S = 30
NICS = 2


class Machine:
    """What a network needs of its machine and of the agent, which are one here."""

    def __init__(self) -> None:
        self.configured: list[tuple[list[str], list[int]]] = []
        self.attached: list[int] = []
        self.served: list[str] = []
        self.forwarded: list[int] = []
        self._taps: list[int] = []

    async def wait_agent(self) -> Any:
        return self

    async def until_end(self, work: Coroutine[Any, Any, None]) -> None:
        await work

    async def attach_nic(self, nic: int, mac: str, fds: list[int]) -> None:
        self.attached.append(nic)
        self._taps += [os.dup(fd) for fd in fds]  # a tap ends with its last descriptor

    async def configure_network(self, nics: list[GuestNic], gone: list[int] | None = None) -> None:
        self.configured.append(([nic.name for nic in nics], list(gone or [])))

    async def serve_names(self, address: str, questions: str, answers: str) -> None:
        self.served.append(address)

    async def forward(self, port: int, to_guest: str, from_guest: str) -> None:
        self.forwarded.append(port)

    def open_stream(self, descriptor: int, direction: Direction, token: str) -> Stream:
        return Stream(asyncio.get_running_loop().create_future())

    def close(self) -> None:
        for fd in self._taps:
            os.close(fd)


@pytest.fixture
async def namespace() -> AsyncIterator[int]:
    made = make_namespace()
    ip(made, "link set lo up")
    yield made
    os.close(made)


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    made = Machine()
    yield made
    made.close()


@pytest.fixture
async def network(
    namespace: int, machine: Machine, tmp_path: Path
) -> AsyncIterator[SandboxNetwork]:
    prepared = PreparedNetwork(os.dup(namespace), "", NICS)
    made = SandboxNetwork(machine, SandboxDirectory(str(tmp_path)), prepared)
    await made.join()
    yield made
    await made.close()
    await made.close()
    await asyncio.get_running_loop().shutdown_default_executor()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_watch_tells_of_a_change_once_it_is_quiet(namespace: int) -> None:
    told: list[bool] = []
    watch = LinkWatch(namespace, lambda: told.append(True))
    ip(namespace, "link add a0 type bridge", "link set a0 up", "addr add 10.9.9.1/24 dev a0")
    await until(lambda: told)
    watch.close()
    watch.close()
    assert told == [True]


async def test_interfaces_that_come_are_joined_and_those_that_go_are_left(
    namespace: int, machine: Machine, network: SandboxNetwork
) -> None:
    outside = make_namespace()
    try:
        for name in ("eth0", "eth1"):
            path = f"/proc/{os.getpid()}/fd/{outside}"
            ip(namespace, f"link add {name} type veth peer name p{name}")
            ip(namespace, f"link set p{name} netns {path}", f"link set {name} up")
            await until(lambda name=name: ([name], []) in machine.configured)  # type: ignore[misc]
        assert machine.attached == [0, 1]
        ip(namespace, "link del eth0")
        await until(lambda: ([], [0]) in machine.configured)
        assert [name for name in list_links(namespace) if name.startswith("eth")] == ["eth1"]
    finally:
        os.close(outside)


async def test_an_interface_without_room_is_told_in_the_log_and_the_others_stay(
    namespace: int, machine: Machine, network: SandboxNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(NICS + 1):
        ip(namespace, f"link add e{number} type veth peer name f{number}")
    await until(lambda: "no room for" in caplog.text)
    assert machine.configured == []


async def test_a_name_server_that_appears_is_served_once(
    namespace: int, machine: Machine, network: SandboxNetwork
) -> None:
    with entered(namespace):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind((ADDRESS, 0))
        await network.join()
        await network.join()
    assert machine.served == [ADDRESS]


async def test_connections_to_localhost_are_forwarded_once_lo_is_up(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = make_namespace()
    prepared = PreparedNetwork(os.dup(namespace), "", NICS)
    network = SandboxNetwork(machine, SandboxDirectory(str(tmp_path)), prepared)
    await network.join()
    ip(namespace, "link set lo up")

    def is_forwarded() -> bool:
        with entered(namespace):
            client = socket.socket()
        with client:
            return client.connect_ex(("127.0.0.1", 9)) == 0 and bool(machine.forwarded)

    await until(is_forwarded)
    assert set(machine.forwarded) == {9}
    assert caplog.text == ""
    await network.close()
    os.close(namespace)
    await asyncio.get_running_loop().shutdown_default_executor()
