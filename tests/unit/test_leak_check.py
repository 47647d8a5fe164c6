"""The leak check that every test runs under finds each kind of leak."""

import os
import subprocess
import threading

from tests.leaks import find_leaks, read_resources


def test_nothing_is_seen_where_nothing_is_left() -> None:
    before = read_resources()
    with open(os.devnull) as stream:
        stream.read()
    assert find_leaks(before) == []


def test_a_descriptor_that_stays_open_is_named() -> None:
    before = read_resources()
    descriptor = os.memfd_create("left-open")
    try:
        assert [leak for leak in find_leaks(before) if "left-open" in leak]
    finally:
        os.close(descriptor)


def test_a_descriptor_opened_again_under_its_number_is_seen() -> None:
    first = os.memfd_create("first")
    before = read_resources()
    os.close(first)
    second = os.memfd_create("second")
    try:
        assert second == first
        assert [leak for leak in find_leaks(before) if "second" in leak]
    finally:
        os.close(second)


def test_a_thread_that_goes_on_is_named() -> None:
    before = read_resources()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="goes-on")
    thread.start()
    try:
        assert "thread goes-on" in find_leaks(before)
    finally:
        stop.set()
        thread.join()


def test_a_child_that_nobody_waited_for_is_named() -> None:
    before = read_resources()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        assert f"child {child.pid}" in find_leaks(before)
    finally:
        child.communicate()
