"""One Ray for all tests of a session: it takes seconds to start, and much memory."""

import importlib
import os
import secrets
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from stratagem import Engine, StreamingStrategy
from stratagem.testing.waiting import is_running, until

if find_spec("ray") is None:  # there is none for every version of Python
    collect_ignore_glob = ["test_*.py"]

# Imported here: pytest rewrites what it imports, and CPython 3.11 may fail to do so in two threads.
importlib.import_module("stratagem_builtin.coroutines")
importlib.import_module("stratagem_builtin.processes")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.append(str(Path(__file__).parent))  # for what tests have workers do

# Ray reads them when it is imported.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

START_SECONDS = 90.0


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: it takes seconds; leave it out with -m 'not slow'")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


KEEP = """
import os, sys, time
from pathlib import Path
from stratagem_ray.connection import Connection
from stratagem_ray.place import Size, place_of

address, caller = Path(sys.argv[1]), int(sys.argv[2])
connection = Connection(place_of(None, insecure=False), Size(2, 64, 1.0, 60.0))
written = address.with_suffix(".part")
written.write_text(f"{connection.head} {os.getpid()}")
written.rename(address)
while address.exists() and Path(f"/proc/{caller}").exists():
    time.sleep(0.1)
connection.close()
"""

START = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
"""So that the processes of Ray are none of ours: tests count those."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Give the address of a Ray with two CPUs, which this program has joined."""
    from stratagem_ray.connection import Connection
    from stratagem_ray.place import Size, place_of

    address = tmp_path_factory.mktemp("ray") / "address"
    keep = [sys.executable, "-c", KEEP, str(address), str(os.getpid())]
    with (address.parent / "output").open("w") as output:
        subprocess.run(
            [sys.executable, "-c", START, *keep], check=True, stdout=output, stderr=output
        )
    until(address.exists, START_SECONDS)
    head, process = address.read_text().split()
    connection = Connection(place_of(head, insecure=False), Size(2, 64, 1.0, 60.0))
    yield head
    connection.close()
    address.unlink()
    until(lambda: not is_running(int(process)), START_SECONDS)


class Borrowed(StreamingStrategy):
    """Be a strategy that another one owns, and closes."""

    def __init__(self, inner):
        self.inner = inner

    def stream(self, tasks):
        return self.inner.stream(tasks)

    def close(self):
        pass


@pytest.fixture(scope="session")
def lend(cluster):
    """Give what makes a strategy of a spec, once: actors take a second to start."""
    with Engine() as engine:
        made = {}

        def borrow(spec):
            if spec not in made:
                made[spec] = engine.strategy(spec)
            return Borrowed(made[spec])

        yield borrow
        for strategy in made.values():
            strategy.close()
