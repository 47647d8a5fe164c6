"""Calls of a client as shell text, grouped in scenarios, and what came of them.

A file of calls has a line `=== SCENARIO` before each scenario, a line `--- CALL` before each
step, and the step's text below it.

A step's text is run by bash with `$RUNTIME`, `$I` (an image) and the scenario's directory as
working directory.  Its outcome is its exit status and what it printed, in which ids are
replaced: so that two runtimes' outcomes can be compared as text.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 240
IDS = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Step:
    name: str
    """As a user would write the call, short; the row of the table."""
    text: str


@dataclass(frozen=True)
class Scenario:
    """Steps that build on each other; what they leave is removed after them."""

    name: str
    steps: tuple[Step, ...]


Outcomes = dict[str, str]


def parse_calls(text: str) -> tuple[Scenario, ...]:
    scenarios = []
    for part in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]:
        name, *steps = re.split(r"^--- ", part, flags=re.MULTILINE)
        scenarios.append(Scenario(name.strip(), tuple(map(parse_step, steps))))
    return tuple(scenarios)


def parse_step(text: str) -> Step:
    name, _, body = text.partition("\n")
    return Step(name, body.strip())


def run_scenario(scenario: Scenario, prelude: str, env: Mapping[str, str]) -> Outcomes:
    with tempfile.TemporaryDirectory() as directory:
        return {
            step.name: run_step(prelude + step.text, env, Path(directory))
            for step in scenario.steps
        }


def run_step(text: str, env: Mapping[str, str], directory: Path) -> str:
    """Output goes to a file: a daemon that a step leaves must not be waited for."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            ["bash", "-c", text],
            cwd=directory,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = str(child.wait(TIMEOUT_S))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = "timed out"
        output.seek(0)
        return describe(status, output.read().decode(errors="replace"))


def describe(status: str, output: str) -> str:
    lines = [line.rstrip() for line in IDS.sub("ID", output).splitlines()]
    return "\n".join([status, *lines])
