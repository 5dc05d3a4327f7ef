"""Signals: the first one asks a run to stop, the second does not wait."""

import os
import signal
import threading
import time

import pytest

from stratagem import Engine, RunInterrupted, hookimpl
from stratagem.testing import EventRecorder

PATIENCE = 20.0
SPECS = [
    "sequential",
    "threads(max_workers=2)",
    "processes(max_workers=2)",
    "asyncio(max_concurrency=2)",
]

PROGRAM = """
import os, sys, time
from stratagem import Engine, RunInterrupted

def work(number):
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\\n".encode())
    os.close(descriptor)
    os.write(1, b"begun\\n")
    time.sleep(0.05)
    return number

if __name__ == "__main__":
    with Engine(sys.argv[2]) as engine:
        try:
            engine.map(work, range(100_000))
        except RunInterrupted as interrupted:
            signum, report = interrupted.signum, interrupted.report
            begun = sorted(map(int, open(sys.argv[1])))
    time.sleep(0.2)  # time for a task to begin that should not
    done = [outcome.index for outcome in report if outcome.ok]
    print("end", signum, report.stopped, report.partial)
    print("end", sorted(map(int, open(sys.argv[1]))) == begun == done)
    print("end", {outcome.status.value for outcome in report} <= {"ok", "cancelled"})
"""

STUBBORN = """
import os, signal, sys, threading, time
from stratagem import Engine, hookimpl

def work(number):
    os.write(1, b"begun\\n")
    until = time.monotonic() + 120
    while time.monotonic() < until:
        time.sleep(1)

class Watch:
    # Say when the run has noted the first signal.
    @hookimpl
    def stratagem_before_run(self, run):
        threading.Thread(target=self.watch, args=(run,), daemon=True).start()

    def watch(self, run):
        while run.snapshot().stopped is None:
            time.sleep(0.01)
        os.write(1, b"noted\\n")

if __name__ == "__main__":
    with Engine(sys.argv[1], plugins=[Watch()]) as engine:
        try:
            engine.map(work, range(2))
        except KeyboardInterrupt as interrupt:
            print("end", type(interrupt.report).__name__, interrupt.report.partial)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_signal_ends_a_run_with_what_was_done(start_script, tmp_path, spec, signum):
    """What runs may end, nothing further begins, and the error carries the partial report."""
    process = start_script(PROGRAM, tmp_path / "ledger", spec)
    for _ in range(3):
        assert process.stdout.readline() == "begun\n"
    process.send_signal(signum)
    printed, complaints = process.communicate(timeout=PATIENCE)

    ends = [line for line in printed.splitlines() if line != "begun"]
    assert complaints == ""
    assert ends == [f"end {signum.value} interrupted True", "end True", "end True"]
    assert process.returncode == 0


@pytest.mark.parametrize("spec", SPECS)
def test_a_second_signal_does_not_wait_for_tasks(start_script, spec):
    """While a run waits out the grace of tasks that do not end, Ctrl-C ends it at once."""
    if spec != "sequential":
        spec = spec.replace(")", ", grace=100)")
    process = start_script(STUBBORN, spec)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    while (line := process.stdout.readline()) != "noted\n":
        assert line == "begun\n"
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert printed.splitlines()[-1:] == ["end Report True"], complaints
    assert time.monotonic() - began < PATIENCE / 2


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("spec", ["sequential", "threads", "asyncio"])
def test_handlers_are_put_back(engine, spec):
    """Inside a run its own handlers stand; after it, also after a failed one, those before."""
    before = handlers()
    inside = engine.map(lambda _: handlers(), [0], strategy=spec).values[0]
    with pytest.raises(ZeroDivisionError):
        engine.map(lambda n: 1 / n, [0], strategy=spec, on_error="raise")

    assert inside != before
    assert handlers() == before


def test_handlers_are_put_back_after_an_interruption(engine):
    """A run that was interrupted leaves the handlers as it found them."""
    before = handlers()

    def work(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return number

    with pytest.raises(RunInterrupted) as caught:
        engine.map(work, range(10**9), strategy="threads(max_workers=1)")

    assert handlers() == before
    assert (caught.value.signum, caught.value.report.stopped) == (signal.SIGINT, "interrupted")
    assert isinstance(caught.value, KeyboardInterrupt)


def test_an_interrupted_run_tells_its_listeners_the_end():
    """Each task that was announced hears what became of it, and the run its end."""
    recorder = EventRecorder()

    def work(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return number

    with (
        Engine("threads(max_workers=2)", plugins=[recorder]) as engine,
        pytest.raises(RunInterrupted) as caught,
    ):
        engine.map(work, range(10**9))

    ended = [event.key for event in recorder.events if event.hook == "after_task"]
    assert sorted(ended) == sorted(recorder.keys)
    assert sorted(ended) == sorted(outcome.key for outcome in caught.value.report)
    assert recorder.events[-1].hook == "after_run"


def test_off_the_main_thread_no_handler_is_installed(engine):
    """A run in another thread leaves signals alone."""
    before, inside = handlers(), []

    def run():
        inside.extend(engine.map(lambda _: handlers(), [0], strategy="threads").values)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)

    assert inside == [before]


def test_a_stream_leaves_signals_alone(engine):
    """Who iterates handles signals: a stream installs nothing."""
    before = handlers()
    with engine.stream_map(lambda _: handlers(), [0], strategy="threads") as stream:
        inside = [outcome.value for outcome in stream]

    assert inside == [before]


@pytest.fixture
def own_handlers():
    """Install handlers as a program would that handles signals its own way."""
    received = []
    before = {
        number: signal.signal(number, lambda signum, _frame: received.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_of_the_program_are_left_to_it(engine, own_handlers):
    """Where the program handles a signal itself, the run does not interfere, and goes on."""
    before = handlers()

    def work(number):
        os.kill(os.getpid(), signal.SIGINT if number else signal.SIGTERM)
        return handlers() == before

    report = engine.map(work, range(2), strategy="threads(max_workers=1)")

    assert report.values == [True, True]
    assert sorted(own_handlers) == sorted([signal.SIGINT, signal.SIGTERM])
    assert handlers() == before


def test_a_nested_run_leaves_the_signal_to_the_outer_one(engine):
    """A run inside a task installs nothing; the outer run's handlers stop both."""

    def work(_item):
        outer = handlers()
        inner = engine.map(lambda _: handlers(), [0], strategy="sequential").values
        return inner == [outer]

    assert engine.map(work, [0], strategy="threads(max_workers=1)").values == [True]


def test_an_interrupt_raised_by_a_listener_ends_the_run():
    """Ctrl-C that strikes in a hook is no failure of the hook: it ends the run."""

    class Striking:
        @hookimpl
        def stratagem_after_task(self, task):
            if task.index == 2:
                raise KeyboardInterrupt

    with (
        Engine("sequential", plugins=[Striking()]) as engine,
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        engine.map(abs, range(10**6))

    assert caught.value.report.stopped == "interrupted"
    assert [outcome.value for outcome in caught.value.report][:2] == [0, 1]
