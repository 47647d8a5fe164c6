"""The process states: exactly the table's transitions, everything else refused."""

import pytest

from shim.errors import FailedPrecondition
from shim.sandbox.lifecycle import TRANSITIONS, Action, State, advance

REFUSED = [
    (state, action) for state in State for action in Action if (state, action) not in TRANSITIONS
]


@pytest.mark.parametrize(("state", "action"), REFUSED)
def test_what_the_table_does_not_have_is_refused_and_explained(
    state: State, action: Action
) -> None:
    with pytest.raises(FailedPrecondition, match=f"cannot {action} exec 'e': it is {state}"):
        advance(state, action, "exec 'e'")


def test_a_process_that_is_stopped_or_deleted_never_runs_again() -> None:
    reachable = {State.STOPPED}
    while True:
        following = {to for (state, _), to in TRANSITIONS.items() if state in reachable}
        if following <= reachable:
            break
        reachable |= following
    assert reachable == {State.STOPPED, State.DELETED}


def test_every_state_but_the_last_can_end() -> None:
    for state in set(State) - {State.STOPPED, State.DELETED}:
        assert advance(state, Action.EXIT, "x") is State.STOPPED
