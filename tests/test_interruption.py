"""Signals: the first one asks a run to stop, the second does not wait."""

import dis
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from typing import ClassVar

import psutil
import pytest

from stratagem import Engine, RunInterrupted, Stream, hookimpl
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


ELSEWHERE = """
import os, signal, threading, time
from stratagem import Engine, RunInterrupted, hookimpl

def send():
    # The system gives a signal to another thread than the main one, if that is just busy with one.
    # Then nothing cuts the sleep of the main thread short.
    os.read(0, 1)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def work(number):
    for _ in range(2):
        threading.Thread(target=send, daemon=True).start()
    os.write(1, b"begun\\n")
    time.sleep(120)

class Watch:
    @hookimpl
    def stratagem_before_run(self, run):
        threading.Thread(target=self.watch, args=(run,), daemon=True).start()

    def watch(self, run):
        while run.snapshot().stopped is None:
            time.sleep(0.01)
        os.write(1, b"noted\\n")

with Engine("sequential", plugins=[Watch()]) as engine:
    try:
        engine.map(work, range(2))
    except RunInterrupted as interrupt:
        print("end", [outcome.status.value for outcome in interrupt.report])
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no thread can be signalled here")
def test_signals_that_do_not_wake_the_main_thread_are_acted_on(start_script):
    """What runs there sleeps on; the first one is noted at once, and the second one ends it."""
    process = start_script(ELSEWHERE)
    assert process.stdout.readline() == "begun\n"
    process.stdin.write("1")
    process.stdin.flush()
    assert process.stdout.readline() == "noted\n"
    printed, complaints = process.communicate("2", timeout=PATIENCE)

    assert printed.splitlines() == ["end ['cancelled']"], complaints


MANY = [
    "threads(max_workers=4, grace={grace})",
    "asyncio(max_concurrency=4, grace={grace})",
    "processes(max_workers=4, grace={grace})",
    *(
        pytest.param(spec, marks=pytest.mark.once)
        for spec in [
            "retry(threads(max_workers=4, grace={grace}))",
            "retry(processes(max_workers=4, grace={grace}))",
        ]
    ),
]

QUEUED = """
import os, sys, threading, time
from stratagem import Engine, RunInterrupted, hookimpl

def work(number):
    if number == 0:
        return "done"
    os.write(1, b"begun\\n")
    time.sleep(float(sys.argv[2]) if __name__ == "__main__" else 5.0)
    return "late"

async def stubborn(number):
    import asyncio
    if number == 0:
        return "done"
    os.write(1, b"begun\\n")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

class Watch:
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
            engine.map(globals()[sys.argv[3]], range(41))
        except RunInterrupted as interrupted:
            report = interrupted.report
            print("end", interrupted.signum, report.stopped, report[0].value)
            begun = [outcome for outcome in report if outcome.started_at]
            print("end", len(begun), sorted({outcome.status.value for outcome in report}))
    left = [thread for thread in threading.enumerate() if thread.name == "stratagem-signals"]
    for thread in left:
        thread.join(10)
    print("end", any(thread.is_alive() for thread in left))
"""


def interrupt_queue(start_script, spec, signum, *, seconds, function, twice):
    """Interrupt 40 calls on 4 workers; give the lines of the end, and how long it took to come."""
    process = start_script(QUEUED, spec, seconds, function)
    for _ in range(4):
        assert process.stdout.readline() == "begun\n"
    process.send_signal(signum)
    if twice:
        while (line := process.stdout.readline()) != "noted\n":
            assert line == "begun\n"
        process.send_signal(signum)
    began = time.monotonic()
    children = psutil.Process(process.pid).children(recursive=True)
    printed, _ = process.communicate(timeout=PATIENCE)
    seconds = time.monotonic() - began
    _, left = psutil.wait_procs(children, timeout=PATIENCE)

    assert process.returncode == 0
    assert left == []
    return [line for line in printed.splitlines() if line.startswith("end")], seconds


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("spec", MANY)
def test_control_comes_back_within_the_grace(start_script, spec, signum):
    """Of 40 calls of 5 s none begins after the signal: it ends in the grace, and not in 50 s."""
    spec = spec.format(grace=0.5)
    ends, seconds = interrupt_queue(
        start_script, spec, signum, seconds=5.0, function="work", twice=False
    )

    assert ends[0] == f"end {signum.value} interrupted done"
    assert ends[1] == "end 5 ['cancelled', 'ok']"
    assert ends[2] == "end False"
    assert seconds < 4.5


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("spec", MANY)
def test_the_second_signal_ends_a_run_at_once(start_script, spec, signum):
    """SIGTERM as well as Ctrl-C: what runs is given up or killed, and what is done is kept."""
    spec = spec.format(grace=100)
    ends, seconds = interrupt_queue(
        start_script, spec, signum, seconds=60.0, function="work", twice=True
    )

    assert ends[0] == f"end {signum.value} interrupted done"
    assert ends[1] == "end 5 ['cancelled', 'ok']"
    assert seconds < 5.0


@pytest.mark.parametrize("spec", [MANY[0], MANY[1]])
def test_a_coroutine_that_swallows_its_cancel_holds_nothing_up(start_script, spec):
    """Neither the run nor the close of its engine waits for it once more."""
    ends, seconds = interrupt_queue(
        start_script,
        spec.format(grace=100),
        signal.SIGINT,
        seconds=60.0,
        function="stubborn",
        twice=True,
    )

    assert ends[1] == "end 5 ['cancelled', 'ok']"
    assert seconds < 4.0


STREAMED = """
import os, signal, sys, time
from stratagem import Engine

def work(number):
    if number == 2 and sys.argv[2] == "struck":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    if number == 2:
        raise KeyboardInterrupt
    return number

with Engine(sys.argv[1]) as engine:
    stream = engine.stream_map(work, range(5))
    seen = []
    try:
        for outcome in stream:
            seen.append(outcome.index)
    except KeyboardInterrupt as interrupt:
        print("raised", interrupt.report is stream.report)
    print(seen, stream.report.stopped, [outcome.status.value for outcome in stream.report])
"""


@pytest.mark.parametrize("spec", ["sequential", "retry(sequential)"])
def test_an_interrupt_that_strikes_a_task_ends_the_stream(run_script, spec):
    """Ctrl-C is no outcome of the task that happens to run in the main thread."""
    printed = run_script(STREAMED, spec, "struck")

    assert printed.splitlines() == [
        "raised True",
        "[0, 1] interrupted ['ok', 'ok', 'cancelled']",
    ]


@pytest.mark.parametrize("spec", ["sequential", "retry(sequential)"])
def test_an_interrupt_that_a_task_raises_is_its_outcome(run_script, spec):
    """What the task raises by itself costs nothing but itself."""
    printed = run_script(STREAMED, spec, "raised")

    assert printed.splitlines() == ["[0, 1, 2, 3, 4] None ['ok', 'ok', 'error', 'ok', 'ok']"]


OUTSIDE = """
import os, signal, sys, time
from stratagem import Engine

def work(number):
    if number:
        time.sleep(60)
    return number

def main():
    with Engine(sys.argv[1]) as engine:
        stream = engine.stream_map(work, range(40))
        try:
            with stream:
                next(stream)
                os.write(1, b"first\\n")
                while True:  # Ctrl-C strikes here, and again while the stream is closed
                    time.sleep(0.01)  # one that came just before a long sleep would wait it out
        except KeyboardInterrupt:
            print(stream.report.stopped, {outcome.status.value for outcome in stream.report[1:]})

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("spec", MANY)
def test_a_second_interrupt_ends_the_close_of_a_stream(start_script, spec):
    """Ctrl-C in the caller's own code closes the stream; once more, and that does not wait."""
    process = start_script(OUTSIDE, spec.format(grace=100))
    assert process.stdout.readline() == "first\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # the close has begun, or will find the second one; both end it
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert printed.split() == ["closed", "{'cancelled'}"], complaints
    assert time.monotonic() - began < 5.0


INTERRUPTED_AFTER = {"RESUME", "JUMP_BACKWARD", "CALL", "CALL_KW", "CALL_FUNCTION_EX"}
"""After these alone the interpreter looks whether a signal has come."""


class Striker:
    """Raise KeyboardInterrupt in the loop over a stream, at the nth place where it can strike."""

    names: ClassVar = {
        method.__code__: {step.offset: step.opname for step in dis.get_instructions(method)}
        for method in (Stream.__iter__, Stream._read_on, Stream._settle_waiting)
    }

    def __init__(self, nth):
        self.left = nth
        self.last = ""

    def __call__(self, frame, _event, _arg):
        if frame.f_code not in self.names:
            return None
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame, event, _arg):
        if event == "opcode":
            last, self.last = self.last, self.names[frame.f_code][frame.f_lasti]
            self.left -= last in INTERRUPTED_AFTER
            if self.left == 0:
                self.left = -1
                raise KeyboardInterrupt
        return self.step


def is_struck(stream, striker):
    """Read a stream to its end, or until it is struck."""
    tracing = sys.gettrace()
    sys.settrace(striker)
    try:
        for _ in stream:
            pass
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
    return False


@pytest.mark.once
@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=2)"])
def test_a_stream_can_be_closed_wherever_its_loop_was_interrupted(engine, spec):
    """No interrupt leaves it locked."""
    is_struck(engine.stream_map(abs, [1]), Striker(1000))  # Python 3.12 traces from the second on
    for nth in range(1, 1000):
        stream = engine.stream_map(abs, [-1, 2, -3], strategy=spec)
        struck = is_struck(stream, Striker(nth))
        closing = threading.Thread(target=stream.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        assert not closing.is_alive(), nth
        if not struck:
            break

    assert 10 < nth < 999


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


def test_off_the_main_thread_one_line_says_so(engine, caplog):
    """Who looks for the reason finds it at the level of debugging."""
    caplog.set_level("DEBUG", "stratagem")
    thread = threading.Thread(target=lambda: engine.map(abs, [1], strategy="sequential"))
    thread.start()
    thread.join(PATIENCE)

    lines = [r.getMessage() for r in caplog.records if "no_signal_handlers" in r.getMessage()]
    assert len(lines) == 1


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_during_a_run_is_ended_by_signals_as_usual(engine):
    """What a task forks with multiprocessing can be terminated: no handler of ours is in its way."""

    def terminate_child():
        context = multiprocessing.get_context("fork")
        begun = context.Event()
        child = context.Process(target=lambda: begun.set() or time.sleep(PATIENCE), daemon=True)
        child.start()
        assert begun.wait(PATIENCE)
        child.terminate()
        child.join(PATIENCE / 2)
        exitcode = child.exitcode
        child.kill()
        return exitcode

    assert engine.run([terminate_child], strategy="threads").values == [-signal.SIGTERM]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_signals_of_a_child_forked_during_a_run_are_its_own(engine):
    """What a forked child handles in its own way does not stop the run it was forked from."""

    def handle_in_child():
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, lambda _signum, _frame: os._exit(7))
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert engine.run([handle_in_child] * 3, strategy="sequential").values == [7] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_signal_to_a_child_just_forked_is_its_own(engine):
    """However soon it comes: it ends the child, and the run goes on."""

    def end_child(_number):
        child = os.fork()
        if child == 0:
            time.sleep(PATIENCE)
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    report = engine.map(end_child, range(300), strategy="threads(max_workers=2)")

    assert set(report.values) == {-signal.SIGTERM}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_that_lives_on_holds_nothing_of_the_run(engine):
    """The thread that hears signals ends with the run."""
    children = []

    def fork_child():
        child = os.fork()
        if child == 0:
            time.sleep(PATIENCE)
            os._exit(0)
        children.append(child)

    engine.run([fork_child], strategy="threads")
    try:
        for thread in threading.enumerate():
            if thread.name == "stratagem-signals":
                thread.join(PATIENCE / 2)
                assert not thread.is_alive()
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


TIMED = """
import os, signal, sys, time
from stratagem import Engine

def work(number):
    os.write(1, b"begun\\n")
    until = time.monotonic() + 120
    while time.monotonic() < until:
        time.sleep(1)

signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
with Engine("sequential") as engine:
    try:
        engine.map(work, range(2))
    except KeyboardInterrupt as interrupt:
        print("end", interrupt.report.stopped)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_other_signals_do_not_put_off_the_second_one(start_script):
    """A program whose timer strikes all the time ends as soon as any other."""
    process = start_script(TIMED)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert printed == "end interrupted\n", complaints


@pytest.fixture
def told():
    """Have the interpreter tell a program of signals, as the loop of an asyncio program does."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        yield reader, writer
        signal.set_wakeup_fd(-1)


def test_who_was_told_of_signals_still_is(engine, told):
    """During a run the interpreter tells whom it told before, and the run stops as well."""
    reader, writer = told

    def work(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return number

    with pytest.raises(RunInterrupted):
        engine.map(work, range(10**9), strategy="threads(max_workers=1)")

    assert reader.recv(8) == bytes([signal.SIGINT])
    assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_who_takes_over_to_be_told_of_signals_keeps_it(engine, told):
    """A task in the main thread may run a loop that listens; the end of the run leaves it alone."""
    _, writer = told
    signal.set_wakeup_fd(-1)
    engine.map(lambda _: signal.set_wakeup_fd(writer.fileno()), [0], strategy="sequential")

    assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_a_run_leaves_nobody_to_be_told_of_signals(engine):
    """After a run the interpreter tells nobody, as before it."""
    engine.map(abs, [0], strategy="sequential")

    assert signal.set_wakeup_fd(-1) == -1


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
