"""What all tests share: none of them may hang."""

import faulthandler
import signal
import sys

import pytest

MOST_SECONDS = 60.0


def _give_up(_signum, _frame):
    faulthandler.dump_traceback(file=sys.__stderr__)
    raise TimeoutError(f"the test did not end within {MOST_SECONDS:g} s")


@pytest.fixture(autouse=True)
def _no_hang():
    """Fail a test that hangs, and show where each thread stands, instead of waiting for ever."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS, 10.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, previous)
