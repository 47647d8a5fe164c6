"""What every test gets: capability checks and the leak check.

A test in tests/integration, tests/vm or tests/e2e carries the marker of its
folder.  Where the machine lacks what the marker needs, the test is skipped with
the reason, or fails when REQUIRE_INTEGRATION, REQUIRE_VM or REQUIRE_E2E is 1.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.capabilities import probe_integration, probe_kvm, probe_runtime
from tests.leaks import find_leaks, read_resources

TESTS = Path(__file__).parent
FOLDER_MARKERS = {"integration": "integration", "vm": "vm", "conformance": "e2e", "e2e": "e2e"}
PROBES = {
    "integration": probe_integration,
    "vm": probe_kvm,
    "e2e": probe_runtime,
}

MISSING = pytest.StashKey[dict[str, str]]()
"""Why a marker's tests cannot run here.  A probe runs when it is first needed, once."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "leaks(reason): the test leaves descriptors or threads, and why that is right"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ("",)
        marker = FOLDER_MARKERS.get(parts[0])
        if marker is not None:
            item.add_marker(marker)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: those of a session or a module need the capability as well."""
    reasons = item.config.stash.setdefault(MISSING, {})
    for marker, probe in PROBES.items():
        if item.get_closest_marker(marker) is None:
            continue
        if marker not in reasons:
            reasons[marker] = probe()
        if not reasons[marker]:
            continue
        variable = f"REQUIRE_{marker.upper()}"
        if os.environ.get(variable) == "1":
            pytest.fail(f"{variable}=1, but: {reasons[marker]}", pytrace=False)
        pytest.skip(reasons[marker])


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Descriptors, threads, children, links and namespaces: equal before and after.

    Automatic fixtures of function scope come after those of wider scopes and
    before all others, so what a module's fixture holds is not counted.
    """
    if request.node.get_closest_marker("leaks") is not None:
        yield
        return
    before = read_resources()
    yield
    leaks = find_leaks(before)
    if leaks:
        pytest.fail("left behind: " + ", ".join(leaks))
