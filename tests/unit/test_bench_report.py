"""The benchmarks' pure parts: parsing, and the report."""

import os
import struct
from contextlib import nullcontext
from xml.etree import ElementTree

import pytest

from benchmarks import idle, measures
from benchmarks.ctr import Runtime
from benchmarks.host import GROUND, name_ground
from benchmarks.measures import Found, Settings, measure_idle, share_out
from benchmarks.memory import find_named, list_counted, list_pids, parse_guest_bytes
from benchmarks.phases import find_first, parse_guest_clock, split_phases
from benchmarks.picture import draw
from benchmarks.processes import Exec, Rename, parse_events
from benchmarks.report import Figures, render, render_markdown
from benchmarks.runtimes import SAMPAN
from benchmarks.shimtest import parse_results, render_table
from shim.machine.running import parse_pss_bytes

HEADERS_BYTES = 36


def make_figures() -> Figures:
    figures = Figures("now", {"kernel": "6.12"}, {"rounds": 3}, ("sampan", "runc"))
    for ours, theirs in ((1.0, 2.0), (3.0, 2.0), (2.0, 8.0)):
        figures.add("sampan", Found({"create_to_delete_s": ours}))
        figures.add("runc", Found({"create_to_delete_s": theirs}))
    return figures


def test_table_shows_median_range_and_ratio() -> None:
    assert "| 2 (1–3) | 1.00 | 2 (2–8) |" in render_markdown(make_figures())


def test_every_row_says_on_what_ground_it_stands() -> None:
    figures = make_figures()
    figures.host[GROUND] = name_ground("QEMU TCG CPU version 2.5+")
    figures.add("runc", Found({"run_execs": 10.0}))
    rows = [line.split(" | ") for line in render_markdown(figures).splitlines()[2:4]]
    assert [row[1] for row in rows] == ["emulated", "count"]
    assert name_ground("AMD EPYC 9654") == "hardware speed"


def test_metric_of_one_runtime_alone_has_no_ratio() -> None:
    figures = make_figures()
    figures.add("runc", Found({"stdout_mib_s": 512.0}))
    assert "| – | – | 512 (512–512) |" in render_markdown(figures)


def test_exits_are_ranked_and_summed() -> None:
    figures = make_figures()
    figures.add("sampan", Found({}, {"boot": {"exits": {"io": 20, "mmio": 100}}}))
    text = render_markdown(figures)
    assert "agent answers, count: 120" in text
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


def test_idle_containers_are_told_by_number_and_part() -> None:
    sample = idle.Sample(10, {"guest": 13.3, "sampan-shim": 11.3, "sampan-vmm": 7.9}, 42.4)
    row = idle.render({"sampan": [sample]}).splitlines()[-1]
    assert row == "| sampan: 10 | 32.5 | guest 13.3, sampan-shim 11.3, sampan-vmm 7.9 | 42 |"


def test_the_warm_server_has_a_row_of_its_own_and_is_shared_out() -> None:
    samples = [
        idle.Sample(count, {"guest": 10.0, "sampan-warm": warm / count}, 1.0)
        for count, warm in ((1, 30.0), (10, 20.0))
    ]
    rows = idle.render({"sampan": samples}).splitlines()[2:]
    assert rows[0] == "| sampan: 1 | 40.0 | guest 10.0, sampan-warm 30.0 | 1 |"
    assert rows[1] == "| sampan: 10 | 12.0 | guest 10.0, sampan-warm 2.0 | 1 |"
    assert rows[2].startswith("| sampan: the warm server at 1, 10 containers | 30.0, 20.0 |")


def test_what_was_there_before_counts_if_it_is_shared_and_only_then() -> None:
    ours = frozenset((os.getpid(),))
    before = list_pids()
    assert not list_counted(before, frozenset()) & ours
    assert list_counted(before, ours) >= ours
    with open("/proc/self/comm") as comm:
        assert os.getpid() in find_named(comm.read().strip())
    assert share_out({"sampan-warm": 30 << 20, "guest": 5 << 20}, 10) == {
        "guest": 0.5,
        "sampan-warm": 3.0,
    }


def test_a_container_of_sampan_costs_its_share_of_the_warm_server_and_runc_s_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_idle(
        _before: frozenset[int], containers: int, shared: frozenset[int]
    ) -> tuple[dict[str, float], float]:
        return share_out({"own": 8 << 20, **({"sampan-warm": 20 << 20} if shared else {})},
                         containers), 1.0  # fmt: skip

    monkeypatch.setattr(measures, "running", lambda *_: nullcontext("x"))
    monkeypatch.setattr(measures, "read_idle", read_idle)
    monkeypatch.setattr(measures, "find_named", lambda _: frozenset((7,)))
    monkeypatch.setattr(measures, "read_boot_counters", lambda _: {})
    settings = Settings("image", stdout_mib=1, execs=1, idle=4)
    (ours,) = measure_idle(Runtime("sampan", SAMPAN), settings)
    (theirs,) = measure_idle(Runtime("runc", "io.containerd.runc.v2"), settings)
    assert (ours.samples["idle_pss_mib"], ours.samples["warm_pss_mib"]) == (7.0, 20.0)
    assert theirs.samples == {"idle_pss_mib": 2.0, "idle_wakeups_s": 1.0}


def test_a_guests_memory_is_what_is_named_so_and_what_its_template_has() -> None:
    mappings = {
        "7f00-7f10 rw-p 00000000 00:00 0  [anon:guest-memory]": 100,
        "7f10-7f20 rw-p 00010000 fe:00 7  /var/lib/sampan/templates/47378207/memory": 20,
        "7f20-7f30 rw-p 00000000 fe:00 8  /var/lib/sampan/image/vmlinux": 3,
        "7f30-7f40 rw-p 00000000 00:00 0": 1000,
        "7f40-7f50 r-xp 00000000 fe:00 9  /usr/lib/x86_64-linux-gnu/libc.so.6": 1000,
    }
    smaps = "".join(
        f"{line}\nSize: 64 kB\nPss: {kib} kB\nPss_Dirty: 1 kB\n" for line, kib in mappings.items()
    )
    assert parse_guest_bytes(smaps) == 123 << 10


def test_only_exec_events_are_taken() -> None:
    event = struct.Struct("=IIQII")
    headers = bytes(HEADERS_BYTES)
    (started,) = parse_events(headers + event.pack(2, 0, 77, 2**22 - 1, 2**22 - 1))
    assert (started.time_ns, started.pid) == (77, 2**22 - 1)
    assert list(parse_events(headers + event.pack(1, 0, 77, 5, 5))) == []
    assert list(parse_events(headers)) == []
    name = event.pack(0x200, 0, 78, 5, 5) + b"sampan-vmm".ljust(16, b"\0")
    assert list(parse_events(headers + name)) == [Rename(78, 5, "sampan-vmm")]


def test_shim_is_the_first_program_of_that_name() -> None:
    ctr = Exec(1, 10, "ctr run --runtime io.containerd.runc.v2 image containerd-shim-fake")
    server = Exec(9, 12, "/usr/bin/containerd-shim-runc-v2 -namespace default")
    start = Exec(5, 11, "/venv/bin/python /usr/bin/containerd-shim-sampan-v2 -id x start")
    assert find_first([ctr, server, start], "containerd-shim-") is start
    assert find_first([ctr], "containerd-shim-") is None


def test_guest_clock_is_read_behind_a_name_with_blanks_and_brackets() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    clock = parse_guest_clock(f"3.21 6.00\n7 (a) b) S {fields}\n")
    assert (clock.uptime_s, clock.process_start_s) == (3.21, 22 / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("text", ["", "3.21 6.00\n", "3.21 6.00\n7 (sh) S 1 2\n"])
def test_guest_clock_that_is_cut_short_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="uptime"):
        parse_guest_clock(text)


def test_a_phase_needs_its_own_mark_and_the_one_before() -> None:
    marks = {"ctr": 0, "shim": 2_000_000_000, "vmm": 2_500_000_000, "first_byte": 5_000_000_000}
    assert split_phases(marks) == {"phase_shim_s": 2.0, "phase_vmm_s": 0.5}


def test_a_clone_has_no_boot_among_its_phases() -> None:
    marks = {"vmm": 0, "resumed": 3_000_000_000, "created": 5_000_000_000}
    assert split_phases(marks) == {"phase_resumed_s": 3.0, "phase_created_s": 2.0}


def test_gos_benchmark_lines_are_read_by_name_and_unit() -> None:
    output = (
        "goos: linux\n"
        "BenchmarkShim/shim/Run/StartupPhases\n"
        "BenchmarkShim/shim/Run/StartupPhases-2 \t 3\t 812345678 ns/op\t 12.50 ms/connect\n"
        "BenchmarkShim/shim/Exec/StdioRoundTrip/1MiB-2 \t 3\t 5000000 ns/op\t 209.72 MB/s\n"
        "PASS\n"
    )
    assert parse_results(output) == {
        "Run/StartupPhases, ms": 812.345678,
        "Run/StartupPhases, ms/connect": 12.5,
        "Exec/StdioRoundTrip/1MiB, ms": 5.0,
        "Exec/StdioRoundTrip/1MiB, MB/s, more is better": 209.72,
    }


def test_shimtests_table_has_a_ratio_where_both_have_a_figure() -> None:
    runs = {"sampan": {"a, ms": 3.0, "b, ms": 1.0}, "runc": {"a, ms": 2.0}}
    table = render_table(runs, "emulated")
    assert table.startswith("| shimtest, emulated |")
    assert "| a, ms | 3 | 2 | 1.50 |" in table
    assert "| b, ms | 1 | – | – |" in table


def make_timeline() -> Figures:
    figures = Figures("now", {}, {}, ("sampan", "runc"))
    ours = {"phase_shim_s": 0.5, "phase_vmm_s": 0.25, "phase_resumed_s": 1.0, "run_execs": 2.0}
    boot = {"exits": {"io": 0, "mmio": 3}, "timings_us": {"vm": 100_000, "<state>": 200_000}}
    figures.add("sampan", Found({**ours, "create_to_delete_s": 2.5}, {"boot": boot}))
    theirs = {"phase_shim_s": 0.5, "shim_first_byte_s": 0.25, "create_to_delete_s": 1.0}
    figures.add("runc", Found(theirs))
    return figures


def read_texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter()]


def test_the_picture_has_a_lane_for_each_runtime_and_a_bar_for_each_step() -> None:
    texts = read_texts(draw(make_timeline().to_json()))
    assert "sampan: 2500 ms" in texts
    assert "runc: 1000 ms" in texts
    assert "the shim, to the vmm's start: 250 ms, from 500 ms" in texts
    assert "the shim, to the first byte of output: 250 ms, from 500 ms" in texts
    assert "to the end and the removal: 750 ms, from 1750 ms" in texts
    assert "exits until the agent answers: mmio 3" in texts
    assert "programs started: 2" in texts


def test_the_vmms_own_steps_begin_with_it_in_the_picture() -> None:
    texts = read_texts(draw(make_timeline().to_json()))
    assert "vm: 100 ms, from 750 ms" in texts
    assert "<state>: 200 ms, from 850 ms" in texts


def test_a_picture_of_nothing_is_a_picture() -> None:
    assert ElementTree.fromstring(draw(Figures("now", {}, {}, ("sampan",)).to_json())) is not None
