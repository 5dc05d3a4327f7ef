"""The processes strategy: what crosses, what dies, what is killed, and that nothing stays behind."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import psutil
import pytest

from stratagem import (
    Engine,
    RemoteError,
    Task,
    TaskLostError,
    TaskSource,
    TaskTimeoutError,
    TransportError,
    Wait,
    WorkerStartError,
    hookimpl,
)
from stratagem.intake import SequenceIntake
from stratagem.testing import Event, EventRecorder, tasks
from stratagem_builtin import ProcessPoolStrategy
from stratagem_builtin.processes import WINDOW, ProcessStream

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 20.0


@pytest.fixture(scope="module")
def two():
    """Share warm workers among the tests that leave them as they were."""
    with Engine("processes(max_workers=2)") as engine:
        yield engine


def until(condition):
    """Wait for what another process brings about; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def append(path, text):
    """Add a line to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def read(path):
    return path.read_text().split() if path.exists() else []


def is_running(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def type_name(error):
    return getattr(error, "type_name", type(error).__name__).rpartition(".")[2]


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}, {second}")
        self.second = second


class Explosive:
    """Do something when it is unpickled."""

    def __init__(self, effect, *arguments):
        self.effect = effect
        self.arguments = arguments

    def __reduce__(self):
        return (self.effect, self.arguments)


def refuse(reason):
    raise OddError(reason, 2)


def refuse_in(pid):
    """Raise in one process, and be a number in any other."""
    if os.getpid() == pid:
        raise OddError("not here", pid)
    return 7


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_every_start_method_runs_a_batch(tmp_path, method):
    """Values, failures, coroutines and a crash come out alike, however workers are started."""

    def work(number):
        if number == 3:
            raise KeyError(number)
        if number == 5:
            os._exit(0)
        return tasks.square_async(number) if number % 2 else os.getpid()

    with Engine(f"processes(max_workers=2, start_method='{method}')") as engine:
        report = engine.map(work, range(8))
        again = engine.map(work, [0])

    statuses = ["ok", "ok", "ok", "error", "ok", "lost", "ok", "ok"]
    assert [outcome.status for outcome in report] == statuses
    assert (report[1].value, report[7].value, report[3].error.args) == (1, 49, (3,))
    assert os.getpid() not in {report[0].value, report[2].value, again.values[0]}


SESSION = """
import functools, os, sys
from stratagem import Engine

factor = 3

def triple(number):
    return number * factor

class Adder:
    def __init__(self, number):
        self.number = number
    def __call__(self):
        return self.number + factor

def make():
    offset = 100
    return lambda: triple(offset)

if __name__ == "__main__":
    calls = [functools.partial(triple, 1), lambda: triple(2), Adder(3), make(), functools.partial(make())]
    with Engine("processes(max_workers=1, start_method='%s')") as engine:
        print(engine.run(calls).values, engine.map(triple, range(3)).values)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("form", ["file", "-c", "stdin"])
def test_what_a_program_defines_runs_in_its_workers(tmp_path, method, form):
    """Functions, lambdas, closures and objects of ``__main__`` travel, wherever that came from."""
    text = SESSION % method
    script = tmp_path / "program.py"
    script.write_text(text)
    command = {"file": [str(script)], "-c": ["-c", text], "stdin": ["-"]}[form]
    finished = subprocess.run(
        [sys.executable, *command],
        input=text if form == "stdin" else "",
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )

    assert finished.stderr == ""
    assert finished.stdout == "[3, 6, 6, 300, 300] [0, 3, 6]\n"


def test_a_script_without_a_guard_is_told_what_it_needs(start_script):
    """Where workers die at their start, the error says so and names the guard."""
    process = start_script("""
import stratagem
print(stratagem.map(abs, [-1], strategy="processes(max_workers=1, start_method='spawn')"))
""")
    _, complaints = process.communicate(timeout=PATIENCE * 2)

    assert process.returncode == 1
    assert "WorkerStartError" in complaints
    assert 'if __name__ == "__main__":' in complaints


def test_a_task_that_cannot_be_pickled_is_an_error_before_it_is_sent(two):
    """It fails at ``encode_task``, alone, and names what can't be pickled."""
    lock = threading.Lock()
    report = two.run([partial(abs, -1), lambda: lock, partial(abs, -2)])

    assert [outcome.status for outcome in report] == ["ok", "error", "ok"]
    error = report[1].error
    assert isinstance(error, TransportError)
    assert (error.stage, report[1].worker, report[1].seconds) == ("encode_task", "", 0.0)
    assert "_thread.lock" in str(error)


def test_a_function_that_cannot_be_pickled_costs_each_of_its_tasks_an_error(two):
    """A ``map`` of what can't travel is as many errors as items, and no hang."""
    lock = threading.Lock()
    report = two.map(lambda _: lock, range(20))

    assert {(o.status, o.error.stage) for o in report} == {("error", "encode_task")}
    assert len(report) == 20


def test_a_function_reaches_a_worker_though_the_first_argument_cannot():
    """What can't be sent costs its own task, and the function goes with the next one."""
    with Engine("processes(max_workers=1)") as engine:
        report = engine.map(type, [threading.Lock(), 1, 2])

    assert [outcome.status for outcome in report] == ["error", "ok", "ok"]
    assert report[0].error.stage == "encode_task"


class Wakes:
    """Be a dispatcher as a stream sees it: count how often it is woken."""

    def __init__(self):
        self.count = 0

    def wake(self):
        self.count += 1


@pytest.mark.parametrize(("out", "unread", "woken_when_read"), [(WINDOW, 0, 0), (0, WINDOW, 1)])
def test_a_full_window_is_looked_at_again_only_when_there_is_room(out, unread, woken_when_read):
    """While the workers have it all nothing wakes the dispatcher; once half is read, one wake does."""
    wakes = Wakes()
    source = SequenceIntake(range(1000), lambda index, _: Task(index, str(index), "", int))
    stream = ProcessStream(source, wakes)
    stream.out = out
    for number in range(unread):
        stream.outbox.unread.append(number)

    taken = [*stream.take(5), *stream.take(5)]
    woken = wakes.count
    while stream.outbox.unread:
        stream.outbox.unread.popleft()
        if stream.outbox.awaited and len(stream.outbox) <= stream.outbox.half:
            stream.outbox.resume()

    assert (taken, woken, wakes.count) == ([], 0, woken_when_read)


def test_a_stream_that_has_failed_gives_no_further_task():
    """No worker is started for it in the moment before its consumer hears of the failure."""
    source = SequenceIntake(range(10), lambda index, _: Task(index, str(index), "", int))
    stream = ProcessStream(source, Wakes())

    before = len(stream.take(1))
    stream.fail(WorkerStartError("fork", 1))

    assert (before, len(stream.take(1))) == (1, 0)


class LateSource(TaskSource):
    """Have a task come, and wake who waits, just after a look that found none."""

    def __init__(self):
        super().__init__()
        self.looks = 0

    def poll(self):
        self.looks += 1
        if self.looks == 1:
            self.wake()
            return Wait()
        return Task(0, "0", "", int)


def test_a_task_that_comes_just_after_a_look_is_not_missed():
    """The wake that comes with it counts, and the next look finds it."""
    source = LateSource()
    stream = ProcessStream(source, Wakes())
    source.subscribe(stream._stir)

    looks = [stream.take(1), stream.take(1)]

    assert [[task.key for task in taken] for taken in looks] == [[], ["0"]]


def test_an_argument_whose_unpickling_raises_costs_its_own_task(two):
    """It fails at ``decode_task`` in the worker; its neighbours in the same parcel do not."""
    items = [*range(5), Explosive(refuse, "no entry"), *range(5)]
    report = two.map(type, items)

    assert [outcome.status for outcome in report] == ["ok"] * 5 + ["error"] + ["ok"] * 5
    assert type_name(report[5].error) == "TransportError"
    assert report[5].error.stage == "decode_task"
    assert "OddError: no entry, 2" in str(report[5].error)


def test_an_argument_whose_unpickling_kills_costs_its_own_task(two):
    """The worker dies of it, and that task alone is lost."""
    items = [*range(20), Explosive(os._exit, 9), *range(20)]
    report = two.map(type, items)

    assert [outcome.status for outcome in report] == ["ok"] * 20 + ["lost"] + ["ok"] * 20
    assert isinstance(report[20].error, TaskLostError)
    assert report[20].error.exitcode == 9


def test_a_result_whose_unpickling_raises_costs_its_own_task(two):
    """It fails at ``decode_result`` here, and the run goes on."""
    here = os.getpid()

    def work(number):
        return Explosive(refuse_in, here) if number == 3 else number

    report = two.map(work, range(6))

    assert [outcome.status for outcome in report] == ["ok", "ok", "ok", "error", "ok", "ok"]
    assert report[3].error.stage == "decode_result"
    assert "not here" in str(report[3].error)


def test_a_result_that_cannot_be_pickled_is_an_error_that_shows_it(two):
    """What was paid for can still be read in the error."""
    report = two.run([lambda: ["the answer is 42", threading.Lock()], partial(abs, -1)])

    assert [outcome.status for outcome in report] == ["error", "ok"]
    assert type_name(report[0].error) == "TransportError"
    assert report[0].error.stage == "encode_result"
    assert report[0].error.shown.startswith("['the answer is 42', ")


def test_an_exception_with_a_message_of_megabytes_is_cut(two):
    """Ten megabytes of message arrive as a few kilobytes that say how many there were."""

    def work(_item):
        raise OddError("x" * 10_000_000, 2)

    report = two.map(work, range(3))

    assert [outcome.status for outcome in report] == ["error"] * 3
    assert {type(outcome.error) for outcome in report} == {RemoteError}
    assert report[0].error.message.endswith("(cut, 10000003 characters)")
    assert len(report[0].error.message) < 5_000


@pytest.mark.parametrize("size", [10, 60_000, 70_000, 5_000_000])
def test_results_of_any_size_come_back_whole(two, size):
    """Small ones through shared memory, large ones through the pipe, in their order."""
    report = two.map(lambda number: bytes([number]) * size, range(8))

    assert [outcome.value for outcome in report] == [bytes([n]) * size for n in range(8)]


def test_many_results_that_fill_the_shared_memory_come_back_whole(two):
    """Thousands of results, more than the ring holds, each arrive once and unharmed."""
    report = two.map(lambda number: (number, "x" * 1_000), range(3_000))

    assert report.values == [(number, "x" * 1_000) for number in range(3_000)]


def test_a_result_over_the_limit_is_an_error_that_says_so():
    """``max_result_bytes`` bounds what a task may send back."""
    with Engine("processes(max_workers=1, max_result_bytes=1000)") as engine:
        report = engine.map(lambda size: b"x" * size, [900, 1_100, 5_000_000])

    assert [outcome.status for outcome in report] == ["ok", "error", "error"]
    assert [outcome.error.stage for outcome in report.failures] == ["encode_result"] * 2
    assert "more than max_result_bytes=1000" in str(report[1].error)


def segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


CRASHES = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
    "SIGSEGV": (segfault, -signal.SIGSEGV),
    "exit 0": (lambda: os._exit(0), 0),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_among_thousands_loses_one_task_and_repeats_none(tmp_path, name):
    """Exactly the task that crashed is lost; every task ran once, as a ledger on disk shows."""
    crash, exitcode = CRASHES[name]
    ledger = tmp_path / "ledger"
    recorder = EventRecorder()

    def work(number):
        append(ledger, number)
        if number == 1_500:
            crash()
        return number

    with Engine("processes(max_workers=2)", plugins=[recorder]) as engine:
        report = engine.map(work, range(3_000))

    assert [outcome.index for outcome in report.failures] == [1_500]
    assert isinstance(report[1_500].error, TaskLostError)
    assert report[1_500].error.exitcode == exitcode
    assert [o.value for o in report if o.ok] == [n for n in range(3_000) if n != 1_500]
    assert sorted(map(int, read(ledger))) == list(range(3_000))
    assert recorder.of_task("1500") == [
        Event("before_task", "1500"),
        Event("task_error", "1500", "lost"),
        Event("after_task", "1500", "lost"),
    ]


def test_many_crashes_each_lose_their_own_task(tmp_path):
    """Thirty crashes among three hundred tasks lose those thirty."""
    ledger = tmp_path / "ledger"

    def work(number):
        append(ledger, number)
        if number % 10 == 3:
            os._exit(1)
        return number

    with Engine("processes(max_workers=2)") as engine:
        report = engine.map(work, range(300))

    assert [o.index for o in report.failures] == list(range(3, 300, 10))
    assert {o.status for o in report.failures} == {"lost"}
    assert sorted(map(int, read(ledger))) == list(range(300))


def test_a_worker_that_is_killed_from_outside_loses_what_it_ran(tmp_path):
    """An out-of-memory killer, say, costs the one task that it hit."""
    pids, go_on = tmp_path / "pids", tmp_path / "go_on"

    def work(number):
        if number == 0:
            append(pids, os.getpid())
            until(lambda: go_on.exists())
        return number

    with Engine("processes(max_workers=2)") as engine:
        stream = engine.stream_map(work, range(200))
        first = next(stream)
        until(lambda: read(pids))
        os.kill(int(read(pids)[0]), signal.SIGKILL)
        outcomes = [first, *stream]

    lost = [outcome for outcome in outcomes if not outcome.ok]
    assert [(outcome.index, outcome.status) for outcome in lost] == [(0, "lost")]
    assert "killed by SIGKILL" in str(lost[0].error)
    assert sorted(outcome.index for outcome in outcomes) == list(range(200))


def test_a_timeout_kills_the_whole_process_tree(tmp_path):
    """What the task started dies with it, and the next task has a new worker."""
    pids = tmp_path / "pids"

    def work(number):
        if number == 1:
            child = subprocess.Popen(["sleep", "300"])
            append(pids, os.getpid())
            append(pids, child.pid)
            child.wait()
        return os.getpid()

    with Engine("processes(max_workers=1)") as engine:
        report = engine.map(work, range(3), timeout=2)

    worker, child = read(pids)
    assert [outcome.status for outcome in report] == ["ok", "timeout", "ok"]
    assert isinstance(report[1].error, TaskTimeoutError)
    assert not report[1].error.abandoned
    assert str(report[2].value) != worker
    until(lambda: not is_running(worker) and not is_running(child))


def test_a_deadline_is_kept_while_the_consumer_reads_nothing(tmp_path):
    """With nobody reading, a task past its timeout is killed and the next one runs."""
    ran = tmp_path / "ran"

    def work(name):
        if name == "endless":
            threading.Event().wait()
        append(ran, name)
        return name

    with (
        Engine("processes(max_workers=1)") as engine,
        engine.stream_map(work, ["first", "endless", "next"], timeout=1) as stream,
    ):
        first = next(stream)
        until(lambda: read(ran) == ["first", "next"])
        rest = list(stream)

    assert [(o.value, o.status) for o in [first, *rest]] == [
        ("first", "ok"),
        (None, "timeout"),
        ("next", "ok"),
    ]


def test_closing_a_stream_kills_what_does_not_end_in_its_grace(tmp_path):
    """A running task is ``cancelled`` after the grace, its process gone, and no other begins."""
    pids = tmp_path / "pids"

    def work(number):
        append(pids, os.getpid())
        if number:
            threading.Event().wait()
        return number

    with (
        Engine("processes(max_workers=1, grace=0.1)") as engine,
        engine.stream_map(work, range(100)) as stream,
    ):
        next(stream)
        until(lambda: len(read(pids)) == 2)
        stream.close()
        statuses = [outcome.status for outcome in stream.report]
        worker = read(pids)[-1]
        assert not is_running(worker)
        after = engine.map(abs, [-3]).values

    assert statuses[:2] == ["ok", "cancelled"]
    assert set(statuses) == {"ok", "cancelled"}
    assert "its worker was killed" in str(stream.report[1].error)
    assert (len(read(pids)), after) == (2, [3])


def test_workers_die_with_a_parent_that_is_killed(start_script):
    """When the program is killed, its workers go at once, also in the midst of a task."""
    process = start_script("""
import os, threading
from stratagem import Engine

def work(_item):
    os.write(1, b"%d\\n" % os.getpid())
    threading.Event().wait()

if __name__ == "__main__":
    with Engine("processes(max_workers=2)") as engine:
        engine.map(work, range(2))
""")
    workers = [process.stdout.readline().strip() for _ in range(2)]
    running_before = [is_running(pid) for pid in workers]
    process.kill()
    process.wait(PATIENCE)

    assert running_before == [True, True]
    until(lambda: not any(is_running(pid) for pid in workers))


def left_over():
    """Count what this process holds: descriptors, threads, and children that are workers."""
    me = psutil.Process()
    names = sorted(thread.name for thread in threading.enumerate())
    workers = [child.pid for child in me.children(recursive=True) if is_worker(child)]
    return me.num_fds(), names, workers


def is_worker(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "sleep" not in process.name()
    except psutil.NoSuchProcess:
        return False


def test_nothing_is_left_after_close(tmp_path):
    """Descriptors, threads and processes are after each close what they were after the first."""
    pids = tmp_path / "pids"

    def work(number):
        append(pids, os.getpid())
        if number == 30:
            os._exit(1)
        return number

    def use():
        with Engine("processes(max_workers=2)") as engine:
            engine.map(work, range(60))
            with engine.stream_map(work, range(60)) as stream:
                next(stream)

    use()  # starts the fork server and the resource tracker, which stay
    before = left_over()
    for _ in range(3):
        use()

    assert left_over() == before
    assert not any(is_running(pid) for pid in read(pids))


def test_a_long_task_does_not_keep_short_ones_behind_it(tmp_path):
    """Fifty short tasks behind a long one are done by the other worker while that goes on."""
    done, go_on = tmp_path / "done", tmp_path / "go_on"

    def work(number):
        if number == 0:
            until(lambda: go_on.exists())
        append(done, number)
        return number

    finished = []
    with (
        Engine("processes(max_workers=2)") as engine,
        engine.stream_map(work, range(51)) as stream,
    ):
        for outcome in stream:
            finished.append(outcome.index)
            if len(finished) == 50:
                go_on.touch()

    assert finished[-1] == 0
    assert sorted(finished[:-1]) == list(range(1, 51))


def test_a_task_that_turns_out_long_gives_back_what_was_sent_behind_it(tmp_path):
    """What was sent ahead to a worker that is busy long runs elsewhere, and once."""
    go_on, ledger = tmp_path / "go_on", tmp_path / "ledger"

    def work(number):
        append(ledger, number)
        if number == 1_000:
            until(lambda: go_on.exists())
        return number

    finished = []
    with (
        Engine("processes(max_workers=2)") as engine,
        engine.stream_map(work, range(2_000)) as stream,
    ):
        for outcome in stream:
            finished.append(outcome.index)
            if len(finished) == 1_999:
                go_on.touch()

    assert finished[-1] == 1_000
    assert sorted(map(int, read(ledger))) == list(range(2_000))


def test_workers_stay_warm_from_batch_to_batch(two):
    """What a module of a worker holds is there for the next batch."""
    two.map(abs, range(10))
    pids = set(two.map(lambda _: os.getpid(), range(50)).values)
    again = set(two.map(lambda _: os.getpid(), range(50)).values)

    assert len(pids | again) <= 2


def test_lines_logged_in_a_worker_say_in_which_task(two, caplog):
    """A record of any logger arrives here once, with run id and task key, as it was formatted."""

    def work(number):
        logging.getLogger("agents.ada").warning("asked %d of %d", number, 3)
        try:
            raise ValueError(number)
        except ValueError:
            logging.getLogger("agents.ben").exception("it went wrong")

    report = two.map(work, ["a", "b"] and [1, 2], key=lambda number: f"key-{number}")

    lines = [
        (record.name, record.getMessage(), record.stratagem_run_id, record.stratagem_task_key)
        for record in caplog.records
        if record.name.startswith("agents")
    ]
    assert sorted(lines) == sorted(
        (name, message, report.run_id, f"key-{number}")
        for number in (1, 2)
        for name, message in [
            ("agents.ada", f"asked {number} of 3"),
            ("agents.ben", "it went wrong"),
        ]
    )
    errors = [record.exc_text for record in caplog.records if record.name == "agents.ben"]
    assert all("ValueError" in text for text in errors)


def test_hooks_are_called_in_the_process_that_owns_the_run():
    """Listeners never run in a worker."""
    pids = set()

    class Noting:
        @hookimpl
        def stratagem_before_task(self, task):
            pids.add(os.getpid())

        @hookimpl
        def stratagem_after_task(self, task):
            pids.add(os.getpid())

    with Engine("processes(max_workers=2)", plugins=[Noting()]) as engine:
        workers = engine.map(lambda _: os.getpid(), range(20)).values

    assert pids == {os.getpid()}
    assert os.getpid() not in workers


def test_a_worker_keeps_signals_of_the_terminal_to_itself(two):
    """Ctrl-C reaches the whole group of a terminal; a worker leaves it to its parent."""

    def work(_item):
        os.kill(os.getpid(), signal.SIGINT)
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    assert two.map(work, range(4)).values == [True] * 4


def test_options_say_what_they_may_be():
    """Start methods there are not, and numbers out of range, are refused where they are given."""
    for options in [{"max_workers": 0}, {"start_method": "magic"}, {"grace": -1}]:
        with pytest.raises(ValueError, match=next(iter(options))):
            ProcessPoolStrategy(**options)

    assert ProcessPoolStrategy().max_workers == len(os.sched_getaffinity(0))


def test_workers_that_die_at_their_start_end_the_run_with_an_error(monkeypatch, tmp_path):
    """Where no worker comes up, the run does not hang: it raises, with its report."""
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        Engine("processes(max_workers=2, start_method='spawn')") as engine,
        pytest.raises(WorkerStartError) as caught,
    ):
        engine.map(abs, range(10))

    assert (caught.value.start_method, caught.value.exitcode) == ("spawn", 7)
    assert caught.value.report.stopped == "strategy_failed"
    assert Path(broken).exists()


def test_tasks_that_are_being_taken_keep_their_stream_open():
    """When the end of the input is told, what was taken just before is counted already."""
    source = SequenceIntake([abs, abs], lambda index, call: Task(index, str(index), "abs", call))
    stream, seen = ProcessStream(source, Wakes()), []
    stream.outbox.ring = lambda: seen.append(stream.finished)

    taken = stream.take(3)

    assert (len(taken), seen, stream.finished) == (2, [False], False)
