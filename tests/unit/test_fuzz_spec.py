"""Any config.json: taken, or refused with a sentence, before anything is touched."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.machine.size import size_machine
from shim.oci.guest import translate_process, translate_resources, translate_spec
from shim.oci.spec import parse_process, parse_resources, parse_spec
from tests.hypotheses import any_json, tried
from tests.unit.test_containerd_fuzz import CONTEXT, FULL_SPEC, RULES, list_paths

LONGEST = 1000  # of what is said
PLACES = list(list_paths(FULL_SPEC))
CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), any_json(5)), max_size=5)


def change(document: dict[str, Any], changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
    """Several places at once; those that are no longer there are left out."""
    changed: Any = copy.deepcopy(document)
    for path, value in changes:
        parent = changed
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    return json.dumps(changed).encode()


def plan(text: bytes) -> None:
    spec = parse_spec(text)
    assert size_machine(spec, RULES).memory_bytes > 0
    json.dumps(translate_spec(spec, "c", CONTEXT).document)


def refusal(work: Callable[[bytes], object], text: bytes) -> str:
    """What is said; "" when it is taken."""
    try:
        work(text)
    except InvalidArgument as error:
        return str(error) or "nothing"
    return ""


@tried
@given(CHANGES)
def test_several_fields_of_a_spec_may_hold_anything(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    said = refusal(plan, change(FULL_SPEC, changes))
    assert said != "nothing"
    assert len(said) < LONGEST


@tried
@given(st.one_of(any_json(30).map(lambda value: json.dumps(value).encode()), st.binary()))
def test_any_text_may_be_a_spec_a_process_or_resources(text: bytes) -> None:
    for work in (
        plan,
        lambda t: translate_process(parse_process(t), False, ()),
        lambda t: translate_resources(parse_resources(t)),
    ):
        said = refusal(work, text)
        assert said != "nothing"
        assert len(said) < LONGEST
