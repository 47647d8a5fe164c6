"""The benchmarks' pure parts: what is parsed, and what a reader is shown."""

import struct

import pytest

from benchmarks.measures import Found, find_shim
from benchmarks.memory import parse_pss_bytes
from benchmarks.processes import Exec, parse_execs
from benchmarks.report import Figures, render, render_markdown

HEADERS_BYTES = 36


def make_figures() -> Figures:
    figures = Figures("now", {"kernel": "6.12"}, {"rounds": 3}, ("sampan", "runc"))
    for ours, theirs in ((1.0, 2.0), (3.0, 2.0), (2.0, 8.0)):
        figures.add("sampan", Found({"create_to_delete_s": ours}))
        figures.add("runc", Found({"create_to_delete_s": theirs}))
    return figures


def test_table_shows_median_range_and_ratio() -> None:
    assert "| 2 (1–3) | 2 (2–8) | 1.00 |" in render_markdown(make_figures())


def test_metric_of_one_runtime_alone_has_no_ratio() -> None:
    figures = make_figures()
    figures.add("runc", Found({"stdout_mib_s": 512.0}))
    assert "| – | 512 (512–512) | – |" in render_markdown(figures)


def test_exits_are_ranked_and_summed() -> None:
    figures = make_figures()
    figures.add("sampan", Found({}, {"boot": {"exits": {"io": 20, "mmio": 100}}}))
    text = render_markdown(figures)
    assert "agent ready: 120" in text
    assert text.index("| mmio | 100 |") < text.index("| io | 20 |")


def test_failures_are_shown() -> None:
    figures = make_figures()
    figures.failures.append("sampan: ctr run: status 1")
    assert "- **failed**: sampan: ctr run: status 1" in render_markdown(figures)


def test_json_keeps_every_sample() -> None:
    found = make_figures().to_json()["metrics"]["create_to_delete_s"]["runc"]
    assert found == {"median": 2.0, "min": 2.0, "max": 8.0, "samples": [2.0, 2.0, 8.0]}


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (1.5, "1.5"), (99.96, "100"), (1234.5, "1234")]
)
def test_numbers_have_three_digits_that_matter(value: float, shown: str) -> None:
    assert render(value) == shown


def test_pss_is_read_in_bytes() -> None:
    assert parse_pss_bytes("Rss:  10 kB\nPss:   7 kB\nPss_Anon: 3 kB\n") == 7168
    assert parse_pss_bytes("") == 0


def test_only_exec_events_are_taken() -> None:
    event = struct.Struct("=IIQII")
    headers = bytes(HEADERS_BYTES)
    (started,) = parse_execs(headers + event.pack(2, 0, 77, 2**22 - 1, 2**22 - 1))
    assert (started.time_ns, started.pid) == (77, 2**22 - 1)
    assert list(parse_execs(headers + event.pack(1, 0, 77, 5, 5))) == []
    assert list(parse_execs(headers)) == []


def test_shim_is_the_first_program_of_that_name() -> None:
    ctr = Exec(1, 10, "ctr run --runtime io.containerd.runc.v2 image containerd-shim-fake")
    server = Exec(9, 12, "/usr/bin/containerd-shim-runc-v2 -namespace default")
    start = Exec(5, 11, "/venv/bin/python /usr/bin/containerd-shim-sampan-v2 -id x start")
    assert find_shim([ctr, server, start]) is start
    assert find_shim([ctr]) is None
