"""What all tests share: none of them may hang."""

import faulthandler
import importlib
import signal
import subprocess
import sys

import pytest

from stratagem import Engine

# Imported here: pytest rewrites what it imports, and CPython 3.11 may fail to do so in two threads.
importlib.import_module("stratagem_builtin.coroutines")
importlib.import_module("stratagem_builtin.processes")

MOST_SECONDS = 120.0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def engine():
    """Make an engine, closed after the test."""
    with Engine() as made:
        yield made


@pytest.fixture
def start_script(tmp_path):
    """Start Python on the text of a script, with pipes; what still runs after the test is killed."""
    started = []

    def start(text, *arguments, **options):
        script = tmp_path / f"script_{len(started)}.py"
        script.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-u", str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_script(start_script):
    """Run a script to its end; give what it printed."""

    def run(text, *arguments, **options):
        process = start_script(text, *arguments, **options)
        printed, complaints = process.communicate(timeout=MOST_SECONDS)
        assert process.returncode == 0, complaints
        return printed

    return run
