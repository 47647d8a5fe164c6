"""What the network's benchmark makes of counters."""

from benchmarks.network import GIB, METRICS, describe_usage
from benchmarks.usage import Usage, parse_sleeps


def test_usage_is_the_difference_of_two_readings() -> None:
    assert Usage(5.0, 300, 40) - Usage(2.0, 100, 30) == Usage(3.0, 200, 10)
    assert Usage(5.0, 300, None) - Usage(2.0, 100, 30) == Usage(3.0, 200, None)


def test_processor_time_is_for_a_gib_and_exits_for_a_thousand_packets() -> None:
    found = describe_usage("to", Usage(3.0, 200, 10), GIB // 2)
    assert found == {"tcp_to_cpu_s": 6.0, "tcp_to_exits": 50.0}
    assert found.keys() <= METRICS.keys()


def test_runc_has_no_exits_and_kvm_s_statistics_may_be_missing() -> None:
    assert describe_usage("to", Usage(3.0, 200, None), GIB) == {"tcp_to_cpu_s": 3.0}
    assert describe_usage("from", Usage(3.0, 200, 10), GIB) == {"tcp_from_cpu_s": 3.0}


def test_a_thread_has_slept_as_often_as_it_did_so_by_itself() -> None:
    status = "Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t4\n"
    assert parse_sleeps(status) == 17
    assert parse_sleeps("") == 0
