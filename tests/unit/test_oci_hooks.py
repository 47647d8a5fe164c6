"""Which hooks run on the host, in which order, with what input (OCI runtime spec 1.2)."""

import json
from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.oci.hooks import Hook, HookPlan, plan_hooks
from shim.oci.spec import parse_spec

SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["sh"], "cwd": "/"},
}


def plan(annotations: dict[str, str] | None = None, **hooks: Any) -> HookPlan:
    return plan_hooks({**SPEC, "hooks": hooks, "annotations": annotations}, "box", "/bundle")


def test_a_spec_without_hooks_has_none() -> None:
    made = plan_hooks(SPEC, "box", "/bundle")
    assert (made.created, made.started, made.stopped) == ((), (), ())


def test_prestart_comes_before_create_runtime_and_each_list_keeps_its_order() -> None:
    made = plan(
        createRuntime=[{"path": "/c"}],
        prestart=[{"path": "/a"}, {"path": "/b"}],
        createContainer=[{"path": "/guest"}],
        poststart=[{"path": "/d"}],
        poststop=[{"path": "/e"}],
    )
    assert [(hook.field, hook.path) for hook in made.created] == [
        ("hooks.prestart[0]", "/a"),
        ("hooks.prestart[1]", "/b"),
        ("hooks.createRuntime[0]", "/c"),
    ]
    assert [hook.field for hook in made.started] == ["hooks.poststart[0]"]
    assert [hook.field for hook in made.stopped] == ["hooks.poststop[0]"]


def test_a_hook_has_its_arguments_its_environment_alone_and_its_timeout() -> None:
    described = {"path": "/a", "args": ["other", "x"], "env": ["A=b=c", "E="], "timeout": 5}
    (hook,) = plan(poststop=[described]).stopped
    assert hook == Hook("hooks.poststop[0]", "/a", ("other", "x"), {"A": "b=c", "E": ""}, 5)


def test_without_arguments_the_path_is_the_programs_name() -> None:
    (hook,) = plan(poststop=[{"path": "/a"}]).stopped
    assert (hook.args, hook.env, hook.timeout_s) == (("/a",), {}, None)


@pytest.mark.parametrize("entry", ["A", "=b", ""])
def test_an_environment_that_is_none_is_refused_by_name(entry: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"hooks.poststart\[0\].env\[1\]: expected NAME=value"
    ):
        plan(poststart=[{"path": "/a", "env": ["A=b", entry]}])


def test_the_state_of_a_container_that_is_being_created() -> None:
    state = plan({"k": "v"}).describe_state("creating", 77)
    assert json.loads(state) == {
        "ociVersion": "1.2.0",
        "id": "box",
        "status": "creating",
        "pid": 77,
        "bundle": "/bundle",
        "annotations": {"k": "v"},
    }


def test_the_state_of_a_stopped_container_has_no_pid() -> None:
    state = json.loads(plan().describe_state("stopped", 0))
    assert "pid" not in state
    assert "annotations" not in state


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ({}, r"hooks.prestart\[0\].path: is required and missing"),
        ({"path": "bin/x"}, r"hooks.prestart\[0\].path: expected an absolute path"),
        ({"path": "/x", "timeout": 0}, r"hooks.prestart\[0\].timeout: "),
        ({"path": "/x", "timeout": "5"}, r"hooks.prestart\[0\].timeout: "),
        ({"path": "/x", "args": ["a\0b"]}, r"hooks.prestart\[0\].args\[0\]: "),
    ],
)
def test_a_hook_that_is_none_is_refused_by_field_and_value(hook: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        parse_spec(json.dumps({**SPEC, "hooks": {"prestart": [hook]}}).encode())
