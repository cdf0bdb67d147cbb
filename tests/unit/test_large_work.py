"""Work on large messages: one at a time in a process, and in a forked child from the beginning."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from postroom.large_work import large_work_lock, one_at_a_time


def test_one_works_at_a_time_and_each_comes_to_work() -> None:
    working, most, changes = 0, 0, threading.Lock()
    all_came = threading.Barrier(4)

    def work(number: int) -> int:
        nonlocal working, most
        with changes:
            working += 1
            most = max(most, working)
        os.sched_yield()
        with changes:
            working -= 1
        return number

    def come(number: int) -> int:
        all_came.wait()
        return one_at_a_time(work, number)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(come, range(4))) == [0, 1, 2, 3]
    assert most == 1


def test_what_fails_lets_the_next_one_work() -> None:
    with pytest.raises(ZeroDivisionError):
        one_at_a_time(lambda: 1 // 0)
    assert one_at_a_time(lambda: "next") == "next"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_it_waits_for_nobody() -> None:
    with large_work_lock():
        child = os.fork()
        if not child:
            os._exit(one_at_a_time(lambda: 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
