"""Hostile callers: whatever they send, every request gets its own status and the shim
continues.

A fixed number of rounds from a fixed seed; `make fuzz` sets SAMPAN_FUZZ_ROUNDS and
SAMPAN_FUZZ_SEED for more rounds.
"""

import asyncio
import copy
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from proto.gen.containerd import task_pb2, ttrpc_pb2
from shim.containerd.codes import describe_error
from shim.containerd.task import SERVICES
from shim.errors import InvalidArgument
from shim.machine.size import SizeRules, size_machine
from shim.oci.guest import HostContext, translate_process, translate_resources, translate_spec
from shim.oci.spec import parse_process, parse_resources, parse_spec
from shim.ttrpc.client import Client, connect_client
from shim.ttrpc.frames import HEADER, FrameType
from shim.ttrpc.status import Code, StatusError
from tests.fakes.guest import FakeMachine
from tests.fakes.task_service import REQUESTS, SPEC, Harness
from tests.fakes.ttrpc import serving

ROUNDS = int(os.environ.get("SAMPAN_FUZZ_ROUNDS", "1500"))
SEED = int(os.environ.get("SAMPAN_FUZZ_SEED", "1"))
BUGS = {Code.UNKNOWN, Code.INTERNAL}
TEXTS = ("", "c1", "c2", "e1", "../c1", "a/b", "x" * 300, "nul\0", "schön", "/no/such/place")
URIS = ("", "/no/such/fifo", "file://", "binary://", "binary:///no/such/logger?a=b", "x://y", "\0")
NUMBERS = (0, 1, 2, 9, 15, 64, 65, (1 << 31) - 1)
JSONS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"args":["sh"],"cwd":"/"}',
    b'{"memory":{"limit":-2}}',
    b"\xff",
)
GOOD_JSONS = (b'{"args":["sh"],"cwd":"/","memory":{"limit":1}}',)
OFTEN = ("Create", "Create", "Create", "Start", "Start", "Exec", "Exec", "Resume", "Resume")
"""More often than their opposites: most calls need a container that exists and runs."""
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 70, 1.5, "", "x", "/x", "\0", "\ud800", "x" * 5000,
    [], [None], [1], ["x"], [[]], [{}], {}, {"x": None}, {"x": 1}, {"x": "y"}, {"type": "pid"},
)  # fmt: skip
RULES = SizeRules(1, 8, 1024, 128, 1 << 20)
CONTEXT = HostContext(bundle="/b", terminal=False, host_pid=7)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path, FakeMachine(), "c1")
    yield harness
    await harness.containers.close()
    harness.reaper.close()


@pytest.fixture
async def path(harness: Harness, tmp_path: Path) -> AsyncIterator[str]:
    """The service behind a real ttrpc server."""
    services = harness.service.describe()
    async with serving(str(tmp_path / "s"), services, describe_error) as path:
        yield path


@pytest.fixture
async def client(path: str) -> AsyncIterator[Client]:
    client = await connect_client(path)
    yield client
    await client.close()


async def assert_serves(client: Client) -> None:
    answer = await client.call(SERVICES[0], "Connect", b"", 30)
    assert task_pb2.ConnectResponse.FromString(answer).shim_pid == os.getpid()


async def read_code(client: Client, service: str, method: str, payload: bytes) -> int:
    try:
        await client.call(service, method, payload, 0.02 if method == "Wait" else 30)
    except StatusError as error:
        return error.code
    return Code.OK


class Caller:
    """Invents requests: of the right shape with odd values, or broken bytes."""

    def __init__(self, bundle: Path) -> None:
        self._dice = random.Random(SEED)
        self._usual = {"id": ("c1",), "bundle": (str(bundle),), "exec_id": ("", "e1")}

    def make(self) -> tuple[str, str, bytes]:
        dice = self._dice
        method = dice.choice([*REQUESTS, *OFTEN, "NoSuchMethod"])
        service = dice.choice([*SERVICES, "no.such.Service"] if dice.random() < 0.1 else SERVICES)
        payload = b""
        if method in REQUESTS:
            message = getattr(task_pb2, REQUESTS[method])()
            self._fill(message)
            payload = message.SerializeToString()
        return service, method, self._break(payload) if dice.random() < 0.2 else payload

    def _fill(self, message: Any) -> None:
        for descriptor in message.DESCRIPTOR.fields:
            if self._dice.random() < 0.05:
                continue
            if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                self._fill_message(message, descriptor)
            elif not descriptor.is_repeated:
                setattr(message, descriptor.name, self._choose(descriptor))

    def _fill_message(self, message: Any, descriptor: Any) -> None:
        if descriptor.name in ("spec", "resources", "options"):
            part = getattr(message, descriptor.name)
            part.type_url = self._dice.choice(TEXTS)
            part.value = self._dice.choice(JSONS if self._dice.random() < 0.3 else GOOD_JSONS)
        elif descriptor.name == "rootfs":
            mount = message.rootfs.add()
            mount.type, mount.source = self._dice.choice(TEXTS), self._dice.choice(TEXTS)

    def _choose(self, descriptor: Any) -> Any:
        if descriptor.type == FieldDescriptor.TYPE_STRING:
            # Valid often enough for the other fields to matter.
            if self._dice.random() < 0.85:
                return self._dice.choice(self._usual.get(descriptor.name, ("",)))
            is_stdio = descriptor.name in ("stdin", "stdout", "stderr")
            return self._dice.choice(URIS if is_stdio else TEXTS)
        if descriptor.type == FieldDescriptor.TYPE_BOOL:
            return self._dice.random() < 0.5
        return self._dice.choice(NUMBERS)

    def _break(self, payload: bytes) -> bytes:
        broken = bytearray(payload or b"\0")
        for _ in range(self._dice.randrange(1, 4)):
            broken[self._dice.randrange(len(broken))] = self._dice.randrange(256)
        return bytes(broken[: self._dice.randrange(1, len(broken) + 1)])


async def test_any_request_of_any_method_gets_a_status_that_is_no_bug(
    harness: Harness, client: Client
) -> None:
    caller = Caller(harness.bundle)
    answered = set()
    for number in range(ROUNDS):
        if harness.machine.ended.done():  # it ended with its last container: a new service begins
            harness.machine.ended = asyncio.get_running_loop().create_future()
        service, method, payload = caller.make()
        code = await read_code(client, service, method, payload)
        assert code not in BUGS, f"round {number}, {method} {payload!r}: {code}"
        if code == Code.OK:
            answered.add(method)
    assert answered == REQUESTS.keys() - {"Checkpoint"}
    await assert_serves(client)


async def test_any_frame_is_answered_or_passed_over_and_others_are_served(
    path: str, client: Client
) -> None:
    dice = random.Random(SEED)
    for _ in range(ROUNDS // 30):
        reader, writer = await asyncio.open_unix_connection(path)
        stream, expected = -1, 0
        for _ in range(dice.randrange(1, 20)):
            stream += 2
            kind = dice.choice([FrameType.REQUEST, FrameType.RESPONSE, FrameType.DATA, 0, 255])
            data = dice.randbytes(dice.randrange(64))
            writer.write(HEADER.pack(len(data), stream, kind, dice.randrange(256)) + data)
            expected += kind == FrameType.REQUEST
        for _ in range(expected):
            length, _, kind, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
            answer = ttrpc_pb2.Response.FromString(await reader.readexactly(length))
            assert kind == FrameType.RESPONSE
            assert answer.status.code not in (0, *BUGS), answer
        # An unfinished message: the next connection must not be affected.
        writer.write(HEADER.pack(1 << 20, stream + 2, FrameType.REQUEST, 0) + b"x")
        writer.close()
    await assert_serves(client)


async def test_an_oversized_frame_is_refused_and_the_connection_goes_on(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    size = (4 << 20) + 1
    writer.write(HEADER.pack(size, 1, FrameType.REQUEST, 0) + bytes(size))
    request = ttrpc_pb2.Request(service=SERVICES[0], method="Connect").SerializeToString()
    writer.write(HEADER.pack(len(request), 3, FrameType.REQUEST, 0) + request)
    codes = []
    for _ in range(2):
        length, stream, _, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
        answer = ttrpc_pb2.Response.FromString(await reader.readexactly(length))
        codes.append((stream, answer.status.code))
    assert codes == [(1, Code.RESOURCE_EXHAUSTED), (3, Code.OK)]
    writer.close()


FULL_SPEC: dict[str, Any] = {
    **SPEC,
    "process": {
        "args": ["sh"], "cwd": "/", "env": ["A=b"], "terminal": False,
        "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [1]},
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}],
        "noNewPrivileges": True, "apparmorProfile": "x", "selinuxLabel": "x", "oomScoreAdj": 1,
    },
    "hostname": "h", "domainname": "d", "annotations": {"dev.sampan.vcpus": "1"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/d", "type": "bind", "source": "/tmp", "options": ["rbind"]},
    ],
    "hooks": {"startContainer": [{"path": "/x", "args": ["x"], "env": ["A=b"]}]},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
        "resources": {
            "cpu": {"shares": 2, "quota": 1000, "period": 1000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 1 << 28, "swap": 1 << 28}, "pids": {"limit": 9},
            "devices": [{"allow": False, "access": "rwm"}], "unified": {"cpu.weight": "1"},
        },
        "cgroupsPath": "/x", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
        "sysctl": {"net.ipv4.ip_forward": "1"}, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "rootfsPropagation": "private", "mountLabel": "x",
    },
}  # fmt: skip


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from list_paths(child, (*path, key))


def replaced(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    changed = copy.deepcopy(document)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return json.dumps(changed).encode()


def refusal(work: Callable[[], object]) -> str:
    """The error message; "" if it is accepted."""
    try:
        json.dumps(work())
    except InvalidArgument as error:
        return str(error)
    return ""


def plan(text: bytes) -> object:
    """All that Create derives from a config.json before it changes anything."""
    spec = parse_spec(text)
    assert size_machine(spec, RULES).memory_bytes > 0
    return translate_spec(spec, "c", CONTEXT).document


@pytest.mark.parametrize(
    "place", tuple(list_paths(FULL_SPEC)), ids=lambda place: ".".join(map(str, place))
)
def test_every_field_of_a_spec_may_hold_anything(place: tuple[Any, ...]) -> None:
    """It is accepted, or refused with the name of the field or of one below or
    above it."""
    names = {str(key) for key in place}
    for value in VALUES:
        said = refusal(partial(plan, replaced(FULL_SPEC, place, value)))
        assert not said or any(name in said for name in names), (value, said)


def test_the_full_spec_itself_is_taken() -> None:
    plan(json.dumps(FULL_SPEC).encode())


def plan_exec(text: bytes) -> object:
    return translate_process(parse_process(text), False, ())


def plan_update(text: bytes) -> object:
    return translate_resources(parse_resources(text))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
def test_every_field_of_an_execs_process_and_of_an_update_may_hold_anything(value: Any) -> None:
    process, resources = FULL_SPEC["process"], FULL_SPEC["linux"]["resources"]
    for path in list_paths(process):
        text = replaced(process, path, value)
        said = refusal(partial(plan_exec, text))
        assert not said or str(path[0]) in said
    for path in list_paths(resources):
        text = replaced(resources, path, value)
        said = refusal(partial(plan_update, text))
        assert not said or str(path[0]) in said
