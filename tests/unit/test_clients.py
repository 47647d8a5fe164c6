"""The files of clients' calls, their reasons, and how outcomes are compared."""

from pathlib import Path

import pytest

from tests.clients.report import find_unexplained, print_table, read_reasons
from tests.clients.step import Scenario, Step, describe, parse_calls, run_scenario

DIRECTORY = Path(__file__).resolve().parents[1] / "clients"


def test_a_file_of_calls_is_scenarios_of_steps() -> None:
    text = "# said of it\n\n=== one\n--- a b\nx\ny\n--- c\nz\n\n=== two\n--- d\nw\n"
    assert parse_calls(text) == (
        Scenario("one", (Step("a b", "x\ny"), Step("c", "z"))),
        Scenario("two", (Step("d", "w"),)),
    )


def test_every_call_has_a_name_of_its_own_and_every_reason_is_a_calls() -> None:
    scenarios = parse_calls((DIRECTORY / "docker.calls").read_text())
    names = [step.name for scenario in scenarios for step in scenario.steps]
    assert len(names) > 50
    assert len(set(names)) == len(names)
    assert [name for name in names if "|" in name] == []  # they are cells of a table
    for client in ("docker", "podman"):
        assert read_reasons(DIRECTORY / f"{client}.reasons").keys() <= set(names)


def test_outcomes_are_statuses_and_output_without_ids() -> None:
    assert describe("3", f"a {'0123456789ab'} \n{'f' * 64}\n") == "3\na ID\nID"


def test_steps_share_a_directory_and_the_prelude_and_have_no_input() -> None:
    steps = (Step("a", "echo $V >f; both"), Step("b", "cat f; cat; exit 4"))
    outcomes = run_scenario(Scenario("s", steps), "both() { echo both; };", {"V": "value"})
    assert outcomes == {"a": "0\nboth", "b": "4\nvalue"}


def test_a_difference_needs_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"runc": {"a": "0", "b": "0", "c": "0"}, "sampan": {"a": "0", "b": "1", "c": "1"}}
    reasons = {"b": "because"}
    assert find_unexplained(runs, reasons) == ["c"]
    print_table("some", runs, reasons)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "| some | under sampan |",
        "|---|---|",
        "| `a` | the same |",
        "| `b` | because |",
        "| `c` | **differs, no known reason** |",
    ]
