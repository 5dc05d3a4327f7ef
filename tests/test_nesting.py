"""Tasks that run children by the strategy that runs them: one budget, any depth, clear refusals."""

import asyncio
import sys
import threading
import time
from functools import partial

import cloudpickle
import pytest

from stratagem import (
    Engine,
    LateBindingWarning,
    NestingError,
    current_task,
    hookimpl,
    nested,
    nested_async,
)
from stratagem.testing import tasks

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 20.0
SHARED = ["sequential", "threads(max_workers=2)", "asyncio(max_concurrency=2)"]
ONE = ["threads(max_workers=1)", "asyncio(max_concurrency=1)"]
SPECS = [
    *SHARED,
    "processes(max_workers=2)",
    "retry(threads(max_workers=2), wait_initial=0, wait_jitter=0)",
]


class Peak:
    """Measure how many leaves run at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = self.most = 0

    def leaf(self):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.005)  # a task takes its time
        with self.lock:
            self.running -= 1
        return 1

    def branch(self, depth):
        if depth == 0:
            return self.leaf()
        return sum(nested([partial(self.branch, depth - 1) for _ in range(2)]))

    async def branch_async(self, depth):
        if depth == 0:
            return self.leaf()
        return sum(await nested_async([partial(self.branch_async, depth - 1) for _ in range(2)]))


@pytest.mark.parametrize(
    "spec", ["threads(max_workers=1)", "threads(max_workers=3)", "asyncio(max_concurrency=3)"]
)
@pytest.mark.parametrize("form", ["branch", "branch_async"])
def test_parents_and_children_share_one_budget(engine, spec, form):
    """Deeper than there are slots, nothing deadlocks, and never more run than the limit says."""
    peak = Peak()
    report = engine.map(getattr(peak, form), [4, 4, 4, 4], strategy=spec)

    limit = int(spec[-2])
    assert report.values == [16] * 4
    assert 1 <= peak.most <= limit


@pytest.mark.parametrize("spec", [*ONE, "processes(max_workers=1)"])
def test_a_coroutine_may_wait_for_several_groups_of_children_at_once(engine, spec):
    """The group that is done first keeps no slot from the children of the other."""

    async def parent(number):
        groups = [[number], range(3)]
        return await asyncio.gather(
            *(nested_async([partial(abs, item) for item in group]) for group in groups)
        )

    report = engine.map(parent, [5, 6], strategy=spec, timeout=PATIENCE)

    assert report.values == [[[5], [0, 1, 2]], [[6], [0, 1, 2]]]


@pytest.mark.parametrize("spec", SPECS)
def test_children_give_their_values_in_order(engine, spec):
    """``nested`` returns what ``run_tasks`` would, under every strategy."""

    def parent(number):
        return nested([partial(tasks.square, number + child) for child in range(4)])

    report = engine.map(parent, [0, 10], strategy=spec)

    assert report.values == [[0, 1, 4, 9], [100, 121, 144, 169]]


@pytest.mark.parametrize("spec", SPECS)
def test_a_child_that_fails_raises_in_its_parent_and_nowhere_else(engine, spec):
    """The parent may catch what its child raised; its siblings never know."""

    def parent(number):
        try:
            return nested([partial(tasks.fail_at_three, number)])
        except KeyError as error:
            return error.args

    assert engine.map(parent, [1, 3, 5], strategy=spec).values == [[1], ("three",), [5]]


@pytest.mark.parametrize("spec", SHARED[:2])
def test_what_a_child_raises_tells_of_nothing_else(engine, spec):
    """No error of the machinery stands in the context of the child's own."""

    def parent(_item):
        try:
            nested([partial(tasks.fail_at_three, 3)])
        except KeyError as error:
            return error.__context__

    assert engine.map(parent, [0], strategy=spec).values == [None]


@pytest.mark.parametrize("spec", SHARED)
def test_a_coroutine_runs_children_while_its_loop_goes_on(engine, spec):
    """``nested_async`` takes callables and awaitables, and gives their values in order."""

    async def parent(number):
        return await nested_async(
            [
                partial(tasks.square, number),
                partial(tasks.square_async, number),
                tasks.square_async(number),
            ]
        )

    assert engine.map(parent, [2, 3], strategy=spec).values == [[4] * 3, [9] * 3]


@pytest.mark.parametrize("spec", SPECS[:4])
def test_nested_on_a_running_loop_names_the_other_form(engine, spec):
    """A coroutine that would block its loop is told what to write instead."""

    async def parent(_item):
        return nested([partial(abs, -1)])

    report = engine.map(parent, [0], strategy=spec)

    assert isinstance(report[0].error, NestingError)
    assert "await nested_async" in str(report[0].error)


def test_outside_a_task_nothing_nests():
    """Both forms say that there is no strategy to take, and what to use."""
    with pytest.raises(NestingError, match=r"nested\(\) was called outside a task.*stratagem.run"):
        nested([partial(abs, -1)])
    with pytest.raises(NestingError, match=r"nested_async\(\) was called outside a task"):
        asyncio.run(nested_async([partial(abs, -1)]))


def test_children_know_their_parents_run():
    """Each nested run names the task that started it."""
    runs = []

    class Noting:
        @hookimpl
        def stratagem_before_run(self, run):
            runs.append((run.id, run.parent and (run.parent.run_id, run.parent.key)))

    with Engine("threads(max_workers=2)", plugins=[Noting()]) as own:
        report = own.run([lambda: nested([partial(abs, -1)])])

    assert runs[0] == (report.run_id, None)
    assert [parent for _, parent in runs[1:]] == [(report.run_id, "0")]


@pytest.mark.parametrize("spec", SPECS)
def test_a_child_has_the_key_of_its_parent_in_its_own(engine, spec):
    """Log lines and outcomes of a child tell whose it is, at any depth that a key has room for."""

    def key_of_deepest(depth):
        return nested([partial(key_of_deepest, depth - 1)])[0] if depth else current_task().key

    assert engine.map(key_of_deepest, [0, 3], strategy=spec).values == ["0", "1/0/0/0"]


def test_a_key_that_is_too_long_for_its_children_is_digested():
    """However long the key of a parent is, its children have keys that fit, and differ."""

    def parent(_item):
        return nested([lambda: current_task().key])[0]

    with Engine("sequential") as engine:
        keys = engine.map(parent, ["a", "b"], key=lambda item: "k" * 510 + item).values

    assert len(set(keys)) == 2
    assert all(key.endswith("/0") and len(key) < 40 for key in keys)


def test_children_that_share_a_variable_draw_the_warning(engine):
    """``nested`` looks at its callables as ``run`` does."""

    def parent(_item):
        calls = []
        for number in range(3):
            calls.append(lambda: number)
        with pytest.warns(LateBindingWarning):
            return nested(calls)

    assert engine.map(parent, [0], strategy="sequential").values == [[2, 2, 2]]


@pytest.mark.parametrize("spec", ONE)
def test_a_parent_past_its_deadline_takes_no_slot_with_it(engine, spec):
    """A parent that is abandoned while it waits for children leaves the run its slot."""
    release = threading.Event()

    def parent(number):
        if number == 0:
            nested([partial(release.wait, PATIENCE)])
        return number

    with engine.stream_map(parent, range(4), strategy=spec, timeout=0.2) as stream:
        first = next(stream)
        release.set()  # the child ends only after its parent has
        rest = list(stream)

    assert (first.index, first.status) == (0, "timeout")
    assert [(outcome.index, outcome.status) for outcome in rest] == [(n, "ok") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "spec", ["threads(max_workers=2)", "asyncio(max_concurrency=2)", "sequential"]
)
def test_stopping_the_outer_run_ends_the_inner_ones(engine, spec):
    """After the first failure is raised no child of any parent begins any more."""
    begun = []

    def child(number):
        begun.append(number)
        if number == 3:
            raise KeyError(number)

    def parent(start):
        nested([partial(child, start + offset) for offset in range(3)])

    with pytest.raises(KeyError) as caught:
        engine.map(parent, range(0, 3_000, 3), strategy=spec, on_error="raise")
    seen = len(begun)
    engine.map(abs, range(200), strategy=spec)

    assert caught.value.report.stopped == "on_error"
    assert len(begun) == seen < 3_000
