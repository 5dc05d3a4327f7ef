"""Forking where threads run: the warning that names them."""

import pytest

PATIENCE = 60.0

PROGRAM = """
import asyncio, sys, threading, warnings
from stratagem import Engine

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of it too

async def absolute(number):
    return abs(number)

if __name__ == "__main__":
    over = threading.Event()
    method, *names = sys.argv[1:]
    for name in names:
        threading.Thread(target=over.wait, name=name).start()
    with (
        Engine("asyncio") as coroutines,
        Engine("processes(max_workers=1, start_method='spawn')") as others,
        Engine(f"processes(max_workers=1, start_method='{method}')") as engine,
    ):
        coroutines.map(absolute, [-1])
        others.map(abs, [-1])
        print(engine.map(abs, [-1, -2]).values, engine.map(abs, [-3]).values)
    over.set()
"""


@pytest.fixture
def run_beside(start_script):
    """Run a program that has threads of some names; give what it says on stderr."""

    def run(method, *names):
        process = start_script(PROGRAM, method, *names)
        printed, complaints = process.communicate(timeout=PATIENCE)
        assert (process.returncode, printed) == (0, "[1, 2] [3]\n")
        return complaints

    return run


def test_a_fork_beside_threads_draws_one_warning_that_names_them(run_beside):
    """Whichever thread holds a lock then, it is held in the worker for ever."""
    said = run_beside("fork", "metrics", "uploader")

    assert said.count("RuntimeWarning") == 1
    assert "forks while 2 other threads run (metrics, uploader)" in said
    assert "use start_method='forkserver' or 'spawn'" in said


def test_a_fork_beside_our_own_threads_draws_none(run_beside):
    """Another strategy of processes, or a loop of coroutines, is no reason to warn."""
    assert "RuntimeWarning" not in run_beside("fork")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_start_methods_draw_none(run_beside, method):
    """Nothing of the program is copied there."""
    assert "RuntimeWarning" not in run_beside(method, "metrics")
