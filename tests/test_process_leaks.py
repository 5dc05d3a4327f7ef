"""What tasks leave behind in their worker is told, once."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

from stratagem import Engine

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

METHODS = [
    pytest.param("fork", marks=pytest.mark.once),
    "forkserver",  # the default
    pytest.param("spawn", marks=pytest.mark.once),
]


@pytest.fixture
def leaks(caplog):
    """Listen to the logger ``stratagem`` as workers should; give what it says of leaks."""
    caplog.set_level(logging.INFO, logger="stratagem")

    def told():
        return [
            (record.stratagem_task_key, record.stratagem_run_id, record.getMessage())
            for record in caplog.records
            if record.getMessage().startswith("task_leaked")
        ]

    return told


def leave_threads(count):
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def leave_children(count):
    global kept  # noqa: PLW0603 - a worker forgets what it imported by value otherwise
    kept = [subprocess.Popen(["sleep", "300"]) for _ in range(count)]


def leave_descriptors(count):
    for _ in range(count):
        os.dup(0)


LEAVING = {"threads": leave_threads, "children": leave_children, "descriptors": leave_descriptors}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", LEAVING)
def test_what_a_task_leaves_behind_is_told_once(leaks, method, kind):
    """One record for one kind and worker: how many, and which task, by its run id and key."""

    def work(number):
        if number in {7, 9}:
            LEAVING[kind](20)
        threading.Event().wait(0.002)
        return number

    with Engine(f"processes(max_workers=1, start_method='{method}')") as engine:
        report = engine.map(work, range(20), key=lambda number: f"task {number}")

    assert report.ok
    [(key, run_id, message)] = leaks()
    assert (key, run_id) == ("task 7", report.run_id)
    number = 14 if kind == "descriptors" else 20
    assert message.startswith(f"task_leaked: task 'task 7' left {number} {kind} behind")


def test_tasks_that_leave_nothing_are_not_told_of(leaks):
    """Threads that ended, children that were waited for, closed files, coroutines and their loop."""

    async def call(number):
        await asyncio.to_thread(abs, number)

    def work(number):
        thread = threading.Thread(target=abs, args=(number,))
        thread.start()
        thread.join()
        subprocess.run(["true"], check=True)
        with Path(os.devnull).open() as file:
            file.read()
        return call(number)

    with Engine("processes(max_workers=1)") as engine:
        assert engine.map(work, range(10)).ok

    assert leaks() == []


def test_nobody_looks_where_nobody_would_read(caplog):
    """Below INFO, as the logger is by default, nothing is counted and nothing told."""
    with Engine("processes(max_workers=1)") as engine:
        assert engine.map(leave_threads, [20]).ok

    assert not [record for record in caplog.records if "task_leaked" in record.getMessage()]
