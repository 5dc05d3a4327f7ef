"""Batches: tasks as columns are the tasks that are given one by one."""

import itertools
import os
import weakref
from contextlib import closing
from typing import ClassVar

import pytest

from stratagem import Engine, current_task
from stratagem.batch import Batch


def polled(engine, items, most, **options):
    """Give what a source gives one by one, and what a like one gives in batches of so many."""
    options = {"timeout": 3.0, "tags": ["red"]} | options
    one_by_one, together = [], []
    with closing(engine.stream_map(len, items(), **options)) as stream:
        while (task := stream._intake.take()) is not None:
            one_by_one.append(task)
    with closing(engine.stream_map(len, items(), **options)) as stream:
        rest = ()
        while rest is not None:
            tasks, rest = stream._intake.poll_some(most)
            together.append(tasks)
        ledger = dict(stream._ledger)
        entered = [stream._numbering.entered(index, entry) for index, entry in ledger.items()]
    return one_by_one, [tasks for tasks in together if len(tasks)], entered


def described(task):
    """Give all that there is to know of a task, and what it gives when it is called."""
    shared = (task.name, task.timeout, task.attempt, task.tags, task.parent)
    return task.index, task.key, *shared, task.call()


@pytest.mark.parametrize("read", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_batch_holds_the_tasks_that_a_poll_gives(engine, read, most):
    """Whether in a list or read, alone or together: each task is the same, and so in the ledger."""
    one_by_one, together, entered = polled(engine, lambda: read(["a", "b", "c"]), most)

    tasks = [described(task) for batch in together for task in batch]
    assert tasks == [described(task) for task in one_by_one]
    assert tasks == [described(task) for task in entered]
    assert all(len(batch) <= most for batch in together)


def test_the_tasks_of_a_list_are_not_made_before_they_are_asked_for(engine):
    """Who polls for some of them gets columns."""
    _, together, _ = polled(engine, lambda: ["a", "b", "c"], 2)

    assert [type(batch) for batch in together] == [Batch, Batch]


@pytest.mark.parametrize(
    "options", [{"key": str}, {"tags": lambda item: [item]}], ids=["keys", "tags"]
)
def test_where_the_caller_looks_at_each_item_there_is_no_batch(engine, options):
    """Keys and tags of the caller are asked for task by task."""
    one_by_one, together, _ = polled(engine, lambda: ["a", "b"], 5, **options)

    assert [type(tasks) for tasks in together] == [list]
    assert [described(task) for task in together[0]] == [described(task) for task in one_by_one]


def test_a_batch_gives_a_slice_as_a_list(engine):
    """It is a sequence: places count from both ends."""
    with closing(engine.stream_map(len, ["a", "b", "c"])) as stream:
        batch, _ = stream._intake.poll_some(3)

    assert [task.key for task in batch[1:]] == ["1", "2"]
    assert batch[-1].key == "2"


def named(_item):
    task = current_task()
    return task.index, task.key, task.name, task.attempt, sorted(task.tags)


PLAIN = [5, -(2**70), "text", "\ud800", "", 2.5, float("inf"), True, False, None]


@pytest.mark.parametrize("read", [list, iter], ids=["list", "iterator"])
def test_tasks_of_a_batch_know_who_they_are_in_their_worker(read):
    """Index, key, name and tags come with each, whatever the kind of the item."""
    items = [*PLAIN, [], PLAIN, *range(1_000)]
    with Engine("processes(max_workers=2)") as engine:
        report = engine.map(named, read(items), tags=["red"])

    assert report.values == [
        (index, str(index), "named", 1, ["red"]) for index in range(len(items))
    ]
    assert [outcome.name for outcome in report[:3]] == ["named"] * 3


def same(item):
    return item


def test_plain_values_come_back_from_a_worker_as_they_are():
    """Value and type, and a float to its last bit."""
    with Engine("processes(max_workers=2)") as engine:
        values = engine.map(same, [*range(64), *PLAIN]).values[64:]

    assert [(type(value), value) for value in values] == [(type(value), value) for value in PLAIN]


def end_at(number):
    if number == 700:
        os._exit(3)
    return number


def test_a_crash_in_a_batch_costs_one_task(engine):
    """What was sent with it and had not begun runs elsewhere, with its own key."""
    report = engine.map(end_at, range(1_500), strategy="processes(max_workers=2)")

    assert [outcome.key for outcome in report if not outcome.ok] == ["700"]
    assert [outcome.value for outcome in report if outcome.ok] == [
        *itertools.chain(range(700), range(701, 1_500))
    ]


class Large:
    """Be a result that its worker should not hold on to."""

    made: ClassVar = []

    def __init__(self):
        self.made.append(weakref.ref(self))

    def __reduce__(self):
        return int, ()


def make_large(number):
    return Large() if number == 0 else [reference() is None for reference in Large.made]


def test_a_worker_holds_no_result_while_the_next_task_runs():
    """The room that it takes is free again, also within a batch."""
    with Engine("processes(max_workers=1)") as engine:
        values = engine.map(make_large, range(50)).values

    assert values == [0] + [[True]] * 49
