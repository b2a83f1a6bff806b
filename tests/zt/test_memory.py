"""The cycle collector is always running again."""

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from zt.memory import collector_paused


def test_it_pauses_and_runs_again_whatever_happens() -> None:
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_paused():
        1 / gc.isenabled()
    assert gc.isenabled()


def test_who_pauses_within_a_pause_does_not_end_it() -> None:
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_threads_that_overlap_never_leave_it_off() -> None:
    barrier = Barrier(4)

    def pause(_: int) -> None:
        barrier.wait()
        for _ in range(500):
            with collector_paused():
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pause, range(4)))
    assert gc.isenabled()
