"""CPython's own tests of its executors, run over an executor that is a strategy.

They come with the interpreter, where it ships its tests; nothing of them is copied here.
"""

import importlib
import unittest

import pytest

from stratagem import StrategyExecutor
from stratagem.testing.waiting import until

PACKAGE = "test.test_concurrent_futures"
MODULES = [PACKAGE, *(f"{PACKAGE}.{name}" for name in ("util", "executor", "test_wait"))]
MODULES += [f"{PACKAGE}.{name}" for name in ("test_as_completed", "test_shutdown")]
SUITES = ["ExecutorTest", "ThreadPoolWaitTests", "AsCompletedTests", "ExecutorShutdownTest"]
NOT_OURS = {
    "test_max_workers_negative": "the message is that of ThreadPoolExecutor",
    "test_interpreter_shutdown": "its script imports the executor from concurrent.futures",
    "test_submit_after_interpreter_shutdown": "so does this one",
    "test_hang_gh83386": "and this one; test_executor.py has all three",
}


class ThreadsExecutor(StrategyExecutor):
    """Be what the tests make: so many workers.

    The tests count on a call that begins as soon as it is submitted, before it can be cancelled.
    """

    def __init__(self, max_workers=5):
        super().__init__(f"threads(max_workers={max_workers})")
        self._is_fresh = True

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        if self._is_fresh:
            self._is_fresh = False
            until(lambda: future.running() or future.done())
        return future


def theirs():
    """Give what CPython's test modules define; those of before 3.12 are one module."""
    found = {}
    for name in MODULES:
        try:
            found |= vars(importlib.import_module(name))
        except ModuleNotFoundError:
            continue
    return found


def over_threads(suite, names):
    """Give a test case of one suite over our executor."""
    bases = (names[suite], names["ExecutorMixin"], names["BaseTestCase"])
    left_out = {
        name: unittest.skip(reason)(lambda self: None)
        for name, reason in NOT_OURS.items()
        if hasattr(names[suite], name)
    }
    members = {"executor_type": ThreadsExecutor, "__module__": __name__, **left_out}
    return type(f"Strategy{suite}", bases, members)


names = theirs()
if not set(SUITES) <= names.keys():
    pytest.skip("this interpreter ships no tests of concurrent.futures", allow_module_level=True)
globals().update({f"Strategy{suite}": over_threads(suite, names) for suite in SUITES})
