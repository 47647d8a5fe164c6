"""The soak's model of the expected answers, and its check for growth."""

import random

import pytest

from tests.e2e.ctr import Finished
from tests.soak.driver import judge
from tests.soak.footprint import Footprint, find_growth
from tests.soak.model import Action, Model, State, Step


def start(model: Model, name: str = "soak-0") -> None:
    model.apply(Step(Action.START, name, 2))


def test_a_paused_container_runs_nothing_and_can_be_killed() -> None:
    model = Model(most=2)
    start(model)
    model.apply(Step(Action.PAUSE, "soak-0", 2))
    assert not model.succeeds(Step(Action.EXEC, "soak-0", 2))
    assert not model.succeeds(Step(Action.PAUSE, "soak-0", 2))
    model.apply(Step(Action.KILL, "soak-0", 2))
    assert model.containers["soak-0"].state is State.STOPPED
    assert model.containers["soak-0"].status == 137


def test_only_a_stopped_container_is_deleted() -> None:
    model = Model(most=2)
    start(model)
    assert not model.succeeds(Step(Action.DELETE, "soak-0", 2))
    model.apply(Step(Action.TERMINATE, "soak-0", 2))
    model.apply(Step(Action.DELETE, "soak-0", 2))
    assert model.containers == {}


def test_the_lasting_container_is_never_ended_and_others_are() -> None:
    model, dice = Model(most=2), random.Random(1)
    start(model)
    ended = set()
    for _ in range(2000):
        step = model.choose(dice)
        if model.succeeds(step):
            model.apply(step)
            if step.action is Action.DELETE:
                ended.add(step.name)
        assert len(model.containers) <= 2
    assert "soak-0" not in ended
    assert len(ended) > 10


@pytest.mark.parametrize(
    ("done", "expected", "fine"),
    [
        (Finished(5, "n5\n", ""), True, True),
        (Finished(0, "n5\n", ""), True, False),
        (Finished(5, "", ""), True, False),
        (Finished(1, "", "refused"), False, True),
        (Finished(0, "", ""), False, False),
    ],
)
def test_an_exec_is_judged_by_its_output_and_its_status(
    done: Finished, expected: bool, fine: bool
) -> None:
    assert (not judge(Step(Action.EXEC, "c", 5), done, expected=expected)) is fine


def test_what_grows_is_named_and_what_floats_is_not() -> None:
    before = {"sampan-shim 1": Footprint(10, 4, 1000), "gone 2": Footprint(1, 1, 1)}
    assert find_growth(before, {"sampan-shim 1": Footprint(12, 5, 1200)}) == []
    grown = find_growth(before, {"sampan-shim 1": Footprint(30, 40, 9000)})
    assert len(grown) == 3
    assert all("sampan-shim 1" in line for line in grown)
