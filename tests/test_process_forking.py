"""Forking where threads run: the warning that names them."""

import sys
import threading
import warnings

import cloudpickle
import pytest

from stratagem import Engine

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

# Python 3.12 and later warn of a fork where threads run.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def start_thread():
    """Start threads of a name that wait; they end with the test."""
    over = threading.Event()
    started = []

    def start(name):
        thread = threading.Thread(target=over.wait, name=name)
        thread.start()
        started.append(thread)

    yield start
    over.set()
    for thread in started:
        thread.join()


def test_a_fork_beside_threads_draws_one_warning_that_names_them(start_thread):
    """Whichever thread holds a lock then, it is held in the worker for ever."""
    start_thread("metrics")
    start_thread("uploader")
    with Engine("processes(max_workers=1, start_method='fork')") as engine:
        with pytest.warns(RuntimeWarning) as caught:
            values = engine.map(abs, [-1, -2]).values
        again = engine.map(abs, [-3]).values

    told = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert (values, again) == ([1, 2], [3])
    assert len(told) == 1
    assert "forks while 2 other threads run (metrics, uploader)" in told[0]
    assert "use start_method='forkserver' or 'spawn'" in told[0]


def test_a_fork_beside_our_own_threads_draws_none():
    """Another strategy of processes, or a loop of coroutines, is no reason to warn."""

    async def absolute(number):
        return abs(number)

    with (
        Engine("asyncio") as coroutines,
        Engine("processes(max_workers=1)") as processes,
        Engine("processes(max_workers=1, start_method='fork')") as engine,
    ):
        coroutines.map(absolute, [-1, -2])
        processes.map(abs, [-1, -2])
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            assert engine.map(abs, [-1]).values == [1]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_start_methods_draw_none(start_thread, method):
    """Nothing of the program is copied there."""
    start_thread("metrics")
    with Engine(f"processes(max_workers=1, start_method='{method}')") as engine:
        assert engine.map(abs, [-1]).values == [1]
