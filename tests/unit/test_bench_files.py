"""What the benchmarks make of the kernel's histograms of system calls."""

import os

from benchmarks.file_events import parse_rows

HISTOGRAM = """
# event histogram
#
# trigger info: hist:keys=common_pid:vals=hitcount,ret:sort=hitcount:size=2048 if ret > 0 [active]
#

{ common_pid:        811 } hitcount:          2  ret:         66
{ common_pid:       1204 } hitcount:         40  ret:      10000
{ common_pid: %10d } hitcount:       1000  ret:     999999

Totals:
    Hits: 1042
    Entries: 3
    Dropped: 0
"""


def test_every_process_counts_but_the_one_that_measures() -> None:
    assert parse_rows(HISTOGRAM % os.getpid()) == (42, 10066)


def test_a_histogram_of_hits_alone_has_no_sum() -> None:
    assert parse_rows("{ common_pid:        811 } hitcount:          7\n") == (7, 0)
    assert parse_rows("Totals:\n    Hits: 0\n") == (0, 0)
