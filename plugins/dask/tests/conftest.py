"""One cluster for all tests of a worker of pytest: it takes a second or two to start."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

from stratagem import Engine, StreamingStrategy
from stratagem_dask.loopback import loopback_cluster

# Imported here: pytest rewrites what it imports, and CPython 3.11 may fail to do so in two threads.
importlib.import_module("stratagem_builtin.coroutines")
importlib.import_module("stratagem_builtin.processes")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.append(str(Path(__file__).parent))  # for what several of them have workers do


@pytest.fixture(scope="session")
def cluster():
    with loopback_cluster(threads=2) as running:
        yield running


@pytest.fixture
def stratagem_foreign(cluster):
    return [process.pid for process in (cluster.scheduler, *cluster.workers)]


class Borrowed(StreamingStrategy):
    """Be a strategy that another one owns, and closes."""

    def __init__(self, inner):
        self.inner = inner

    def stream(self, tasks):
        return self.inner.stream(tasks)

    def close(self):
        pass


@pytest.fixture(scope="session")
def lend():
    """Give what makes a strategy of a spec, once: workers take a second to start."""
    with Engine() as engine:
        made = {}

        def borrow(spec):
            if spec not in made:
                made[spec] = engine.strategy(spec)
            return Borrowed(made[spec])

        yield borrow
        for strategy in made.values():
            strategy.close()
