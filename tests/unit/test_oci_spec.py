"""config.json is untrusted: every error in it is named, and no other exception is raised."""

import copy
import json
import random
from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.oci.spec import MAX_SPEC_BYTES, parse_process, parse_resources, parse_spec

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "args": ["/bin/sh"],
        "cwd": "/",
        "env": ["A=b"],
        "user": {"uid": 0, "gid": 0, "additionalGids": [1]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        "capabilities": {"bounding": ["CAP_KILL"]},
        "noNewPrivileges": True,
    },
    "hostname": "h",
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}],
    "annotations": {"a": "b"},
    "hooks": {"prestart": [{"path": "/bin/true"}]},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
        "resources": {"memory": {"limit": 1}, "cpu": {"quota": -1, "period": 1}},
        "maskedPaths": ["/proc/kcore"],
        "sysctl": {"net.ipv4.ip_forward": "1"},
    },
}


def changed(path: list[Any], value: Any) -> bytes:
    spec = copy.deepcopy(GOOD)
    parent: Any = spec
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return json.dumps(spec).encode()


def test_a_good_spec_comes_back_unchanged() -> None:
    assert parse_spec(json.dumps(GOOD).encode()) == GOOD


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["ociVersion"], 1, "ociVersion: expected a string, is 1"),
        (["ociVersion"], "", "ociVersion: expected a string that is not empty"),
        (["root"], [], "root: expected an object, is []"),
        (["root", "path"], None, "root.path: is required and missing"),
        (["root", "readonly"], "yes", "root.readonly: expected true or false, is 'yes'"),
        (["process", "args"], [], "process.args: expected at least 1 item, is []"),
        (["process", "args"], [1], "process.args[0]: expected a string, is 1"),
        (["process", "cwd"], "tmp", "process.cwd: expected an absolute path, is 'tmp'"),
        (["process", "env"], "A=b", "process.env: expected a list, is 'A=b'"),
        (["process", "env"], ["A\0"], "process.env[0]: expected a string without NUL"),
        (["process", "user", "uid"], -1, "process.user.uid: expected a whole number"),
        (["process", "user", "uid"], 1 << 32, "process.user.uid: expected a whole number"),
        (["process", "user", "uid"], True, "process.user.uid: expected a whole number"),
        (["process", "user", "additionalGids"], ["x"], "process.user.additionalGids[0]: "),
        (["process", "rlimits", 0, "soft"], 1 << 64, "process.rlimits[0].soft: "),
        (["process", "rlimits", 0, "type"], None, "process.rlimits[0].type: is required"),
        (["process", "capabilities"], {"bounding": "ALL"}, "process.capabilities['bounding']: "),
        (["mounts"], {}, "mounts: expected a list, is {}"),
        (["mounts", 0], "x", "mounts[0]: expected an object, is 'x'"),
        (["mounts", 0, "destination"], None, "mounts[0].destination: is required and missing"),
        (["mounts", 0, "options"], ["ro", 3], "mounts[0].options[1]: expected a string, is 3"),
        (["annotations", "a"], {}, "annotations['a']: expected a string, is {}"),
        (["hooks", "prestart"], {}, "hooks.prestart: expected a list, is {}"),
        (["linux", "namespaces", 0, "type"], 5, "linux.namespaces[0].type: expected a string"),
        (["linux", "resources", "memory", "limit"], "1G", "linux.resources.memory.limit: "),
        (["linux", "resources", "cpu", "quota"], 0.5, "linux.resources.cpu.quota: "),
        (["linux", "sysctl"], [], "linux.sysctl: expected an object, is []"),
    ],
)
def test_a_broken_field_is_named_with_its_value(path: list[Any], value: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec(changed(path, value))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ociVersion", "root", "process"])
def test_a_missing_part_is_named(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}: is required and missing"):
        parse_spec(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode())


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b"3", b"[" * 100_000, b'{"a":' * 50_000],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"config\.json: "):
        parse_spec(text)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(InvalidArgument, match="hostname: expected Unicode text"):
        parse_spec(changed(["hostname"], "\ud800"))


def test_size_is_bounded() -> None:
    with pytest.raises(InvalidArgument, match=str(MAX_SPEC_BYTES)):
        parse_spec(b" " * (MAX_SPEC_BYTES + 1))


def test_a_long_value_is_shown_shortened() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec(changed(["hostname"], ["x" * 100_000]))
    assert len(str(caught.value)) < 200


def test_null_is_as_good_as_absent() -> None:
    for name in ("mounts", "annotations", "hooks", "hostname"):
        parse_spec(changed([name], None))


def test_any_value_anywhere_parses_or_is_invalid_argument() -> None:
    values: list[Any] = [None, 0, -1, 1.5, "", "x", [], {}, [None], {"a": None}, True, 1 << 70]
    generator = random.Random(5)
    paths = list(walk(GOOD, []))
    for path in paths:
        try:
            parse_spec(changed(path, generator.choice(values)))
        except InvalidArgument:
            continue


def walk(value: Any, path: list[Any]) -> list[list[Any]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    found = [path] if path else []
    for key, child in items:
        found += walk(child, [*path, key])
    return found


def test_an_execs_process_is_checked_as_well() -> None:
    with pytest.raises(InvalidArgument, match="process.args: expected at least 1"):
        parse_process(b'{"args": [], "cwd": "/"}')


def test_an_updates_resources_are_checked_as_well() -> None:
    with pytest.raises(InvalidArgument, match="resources.memory.limit"):
        parse_resources(b'{"memory": {"limit": "1G"}}')
