"""A vmm's output reaches the log, within a limit."""

import asyncio
import os
import select
import time
from collections.abc import Callable, Iterator

import pytest

from shim.machine import vmm_log
from shim.machine.vmm_log import (
    BURST_LINES,
    PAUSE_S,
    READ_BYTES,
    LineBudget,
    VmmLog,
    open_log_pipe,
)
from shim.text import MAX_TEXT

Told = Callable[[], list[str]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = open_log_pipe()
    yield reader, writer
    os.close(writer)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_was_said_before_and_what_is_said_later_is_passed_on(
    pipe: tuple[int, int], told: Told
) -> None:
    reader, writer = pipe
    os.write(writer, b"early\nlate")
    log = VmmLog(reader)
    await until(lambda: told() == ["early"])
    os.write(writer, b"r\n\nlast\n")
    await until(lambda: told() == ["early", "later", "last"])
    log.close()


async def test_the_words_of_a_vmm_that_has_died_are_not_lost(told: Told) -> None:
    reader, writer = open_log_pipe()
    log = VmmLog(reader)
    os.write(writer, b"Traceback\nno newline")
    os.close(writer)
    log.close()
    assert told() == ["Traceback", "no newline"]


async def test_the_end_of_a_vmm_is_no_busy_loop(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmm_log, "PAUSE_S", 0)
    reader, writer = open_log_pipe()
    log = VmmLog(reader)
    os.close(writer)
    await asyncio.sleep(0.05)
    used_s = time.process_time()
    await asyncio.sleep(0.2)
    assert time.process_time() - used_s < 0.1
    log.close()
    assert told() == []


async def test_a_line_is_printable_and_bounded(pipe: tuple[int, int], told: Told) -> None:
    reader, writer = pipe
    log = VmmLog(reader)
    os.write(writer, b"\x1b[2J\xff\0level=fatal\n")
    for _ in range(20):
        os.write(writer, b"x" * 50_000)
        await asyncio.sleep(0.11)
        assert len(log._rest) < 5000
    os.write(writer, b"\nshort\n")
    log.close()
    assert told() == ["[2J\ufffd level=fatal", "x" * MAX_TEXT + "…", "short"]


async def test_a_flood_is_cut_off_and_counted(pipe: tuple[int, int], told: Told) -> None:
    """A vmm that writes as fast as it can gets one burst through; the loop is not starved."""
    reader, writer = pipe
    log = VmmLog(reader)
    sent = 0
    used_s = time.process_time()
    until_s = time.monotonic() + 1
    while time.monotonic() < until_s:
        try:
            os.write(writer, b"flood\n" * 100)
            sent += 100
        except BlockingIOError:
            await asyncio.sleep(0.01)
    assert time.process_time() - used_s < 0.7
    assert sent * len("flood\n") < READ_BYTES * (2 + 1.5 / PAUSE_S)
    log.close()
    lines = told()
    assert lines[:BURST_LINES] == ["flood"] * BURST_LINES
    assert lines[-1].endswith("lines of the vmm's output were dropped: more than one a second")
    passed = lines.count("flood")
    assert passed < BURST_LINES + 5
    dropped = sum(int(line.split()[0]) for line in lines if line != "flood")
    assert passed + dropped == sent


def test_a_budget_fills_up_again_to_a_burst() -> None:
    budget = LineBudget(0)
    assert [budget.take(0) for _ in range(BURST_LINES + 1)] == [True] * BURST_LINES + [False]
    assert budget.take(1)
    assert not budget.take(1.5)
    assert [budget.take(9999) for _ in range(BURST_LINES + 1)].count(True) == BURST_LINES


def test_a_full_pipe_does_not_hold_the_vmm_up(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    while os.write(writer, b"x" * 4096) == 4096:
        if select.select([], [writer], [], 0)[1] == []:
            break
    with pytest.raises(BlockingIOError):
        os.write(writer, b"x" * 4096)
    os.close(reader)
