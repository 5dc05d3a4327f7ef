"""Workers that are replaced after so many tasks, and that nothing is lost by it."""

import os
import sys
import threading
from collections import Counter

import cloudpickle
import psutil
import pytest

from stratagem import Engine
from stratagem.testing import Event, EventRecorder
from stratagem_builtin import ProcessPoolStrategy

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

METHODS = [
    pytest.param("fork", marks=pytest.mark.once),
    "forkserver",  # the default
    pytest.param("spawn", marks=pytest.mark.once),
]


def append(path, text):
    """Add a line to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def read(path):
    return path.read_text().splitlines() if path.exists() else []


def is_running(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_is_replaced_after_so_many_tasks(tmp_path, method):
    """No process runs more than its share, every task runs once, and one bad one harms no other."""
    ledger = tmp_path / "ledger"
    recorder = EventRecorder()

    def work(number):
        append(ledger, f"{os.getpid()} {number}")
        if number == 7:
            os._exit(1)
        return number

    options = f"max_workers=2, start_method='{method}', max_tasks_per_worker=4"
    with Engine(f"processes({options})", plugins=[recorder]) as engine:
        report = engine.map(work, range(20))
        again = engine.map(abs, [-1, -2])

    ran = [line.split() for line in read(ledger)]
    assert [outcome.index for outcome in report.failures] == [7]
    assert report[7].status == "lost"
    assert sorted(int(number) for _, number in ran) == list(range(20))
    assert max(Counter(pid for pid, _ in ran).values()) <= 4
    assert again.values == [1, 2]
    assert recorder.of_task("8")[0:2] == [
        Event("before_task", "8"),
        Event("after_task", "8", "ok"),
    ]
    assert not any(is_running(pid) for pid, _ in ran)


def test_what_was_sent_ahead_to_a_worker_that_retires_runs_elsewhere_and_once(tmp_path):
    """Short tasks travel by the batch; those behind the last one of a worker go to others."""
    ledger = tmp_path / "ledger"

    def work(number):
        append(ledger, f"{os.getpid()} {number}")
        return "x" * (70_000 if number % 100 == 0 else 10)

    with Engine("processes(max_workers=2, max_tasks_per_worker=150)") as engine:
        report = engine.map(work, range(2_000))

    ran = [line.split() for line in read(ledger)]
    assert report.ok
    assert [len(value) for value in report.values[99:102]] == [10, 70_000, 10]
    assert sorted(int(number) for _, number in ran) == list(range(2_000))
    assert max(Counter(pid for pid, _ in ran).values()) <= 150


def test_one_task_a_worker_gives_each_task_a_process_of_its_own():
    """The smallest share there is."""
    with Engine("processes(max_workers=2, max_tasks_per_worker=1)") as engine:
        pids = engine.map(lambda _: os.getpid(), range(8)).values

    assert len(set(pids)) == 8
    assert not any(map(is_running, pids))


def test_a_worker_retires_although_a_task_left_a_thread_that_never_ends():
    """It is replaced after a moment; the interpreter alone would wait for the thread for ever."""

    def work(number):
        if number == 0:
            threading.Thread(target=threading.Event().wait).start()
        return os.getpid()

    with Engine("processes(max_workers=1, max_tasks_per_worker=2)") as engine:
        report = engine.map(work, range(6))

    assert len(set(report.values)) == 3
    assert not any(map(is_running, report.values))


def test_the_last_task_of_a_worker_has_its_timeout():
    """A worker in its last task is watched like any other."""

    def work(number):
        if number == 1:
            threading.Event().wait()
        return number

    with Engine("processes(max_workers=1, max_tasks_per_worker=2)") as engine:
        report = engine.map(work, range(4), timeout=2)

    assert [outcome.status for outcome in report] == ["ok", "timeout", "ok", "ok"]


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_a_share_that_makes_no_sense_is_refused(count):
    """The option is named, with what it may be."""
    with pytest.raises(ValueError, match="max_tasks_per_worker must be a whole number of at least"):
        ProcessPoolStrategy(max_tasks_per_worker=count)
