"""Expansion: tasks that lead to further tasks, under every strategy, to a bound or to their end."""

import asyncio
import itertools
import pickle
import queue
import random
import sys
import threading
from collections import Counter
from functools import partial

import attrs
import cloudpickle
import pytest

import stratagem
from stratagem import (
    DuplicateKeyError,
    Engine,
    ExecutionStrategy,
    Expansion,
    Status,
    StreamingStrategy,
    Task,
    invoke,
    nested,
)
from stratagem.testing import Event, EventRecorder
from stratagem.testing.waiting import PATIENCE, lines, note

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

SPECS = ["sequential", "threads(max_workers=4)", "processes(max_workers=2)", "asyncio"]
VARIANTS = [
    "threads(max_workers=1)",
    "processes(max_workers=1)",
    "asyncio(max_concurrency=1)",
    "retry(threads(max_workers=3), attempts=2, wait_initial=0.0, wait_jitter=0.0)",
]
TREE = {"a": ["b", "c"], "b": ["d", "e"], "c": [], "d": [], "e": ["f"], "f": []}
PATHS = {"a": "0", "b": "0/0", "c": "0/1", "d": "0/0/0", "e": "0/0/1", "f": "0/0/1/0"}


@pytest.fixture(params=[*SPECS, *(pytest.param(spec, marks=pytest.mark.once) for spec in VARIANTS)])
def spec(request):
    """Name each strategy there is, wrapped too."""
    if request.param.startswith("retry"):
        pytest.importorskip("stratagem_retry")
    return request.param


def look_up(name):
    children = TREE[name]
    return Expansion(name.upper(), children) if children else name.upper()


async def look_up_async(name):
    await asyncio.sleep(0)
    return look_up(name)


def count_down(number):
    return Expansion(number, [number - 1] * 2) if number else number


@pytest.mark.parametrize("step", [look_up, look_up_async])
def test_every_item_that_a_step_leads_to_is_run(engine, spec, step):
    """A tree is walked to its leaves; values, keys and parents tell what was found where."""
    report = engine.expand(step, ["a"], strategy=spec).collect()

    assert {o.key: o.value for o in report} == {PATHS[name]: name.upper() for name in TREE}
    assert {o.key: o.parent for o in report} == {
        path: path.rpartition("/")[0] or None for path in PATHS.values()
    }
    assert [outcome.index for outcome in report] == list(range(6))
    assert (report.ok, report.unfollowed) == (True, {})


def test_one_at_a_time_the_deepest_item_goes_first(engine):
    """Under ``sequential`` the outcomes come as a tree is told: parent, first child, its children."""
    keys = [outcome.key for outcome in engine.expand(look_up, ["a"], strategy="sequential")]

    assert keys == ["0", "0/0", "0/0/0", "0/0/1", "0/0/1/0", "0/1"]


def test_many_levels_and_many_items_come_through(engine, spec):
    """Two thousand tasks from one seed: each once, none lost, no wake-up missed."""
    report = engine.expand(count_down, [10], strategy=spec).collect()

    assert Counter(report.values) == {10 - level: 2**level for level in range(11)}
    assert len({outcome.key for outcome in report}) == 2047


class OneByOne(ExecutionStrategy):
    """Be the least that is a strategy."""

    def run_tasks(self, callables):
        return [call() for call in callables]


class Pool(StreamingStrategy):
    """Have threads wait in the source itself, and one consumer wait for all of them."""

    def stream(self, tasks):
        outcomes = queue.Queue(3)

        def work():
            for task in tasks:
                outcomes.put(invoke(task))
            outcomes.put(None)

        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        left = 3
        try:
            while left:
                if (outcome := outcomes.get()) is None:
                    left -= 1
                else:
                    yield outcome
        finally:
            tasks.close()
            while left:
                left -= outcomes.get() is None

    def run_tasks(self, callables):
        raise NotImplementedError


@pytest.mark.parametrize("make", [OneByOne, Pool])
@pytest.mark.parametrize("kind", [list, iter])
def test_strategies_of_strangers_expand(engine, make, kind):
    """One of ``run_tasks`` alone, and one whose threads sleep in the source, need nothing more."""
    report = engine.expand(count_down, kind([9]), strategy=make()).collect()

    assert Counter(report.values) == {9 - level: 2**level for level in range(10)}


@pytest.mark.parametrize("kind", ["list", "generator", "async generator", "stream"])
def test_seeds_come_from_any_input(engine, spec, kind):
    """A sequence, a generator, an async iterable and the stream of another stage are seeds."""

    async def numbers_async():
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    def unwrapped(outcome):
        return count_down(getattr(outcome, "value", outcome))

    seeds = {
        "list": lambda: [0, 1, 2],
        "generator": lambda: iter(range(3)),
        "async generator": numbers_async,
        "stream": lambda: engine.stream_map(abs, range(3), strategy="sequential"),
    }[kind]()
    report = engine.expand(unwrapped, seeds, strategy=spec).collect()

    assert sorted(report.values) == sorted([0, 1, 0, 0, 2, 1, 1, 0, 0, 0, 0])


def test_children_run_while_the_seeds_block(engine, spec):
    """What a first seed leads to is done before the second seed exists."""
    through = threading.Event()

    def seeds():
        yield 2
        assert through.wait(PATIENCE)
        yield 0

    with engine.expand(count_down, seeds(), strategy=spec) as outcomes:
        first = [next(outcomes).value for _ in range(7)]
        through.set()
        rest = [outcome.value for outcome in outcomes]

    assert (sorted(first), rest) == ([0, 0, 0, 0, 1, 1, 2], [0])


def test_an_expansion_is_a_value():
    """It holds its items as a tuple, pickles, and says how a single item is written."""
    expansion = Expansion("page", (n for n in range(3)))

    assert expansion == Expansion("page", [0, 1, 2]) == pickle.loads(pickle.dumps(expansion))
    assert Expansion("leaf").items == ()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        expansion.value = "other"
    with pytest.raises(TypeError, match=r"Expansion\(value, \['abc'\]\)"):
        Expansion("page", "abc")
    with pytest.raises(TypeError, match="iterable of items, not 7"):
        Expansion("page", 7)


def test_an_expansion_outside_of_expand_is_a_value_like_any_other(engine):
    """``map`` gives it as it is."""
    assert engine.map(look_up, ["e"], strategy="sequential").values == [Expansion("E", ["f"])]


def test_max_depth_is_how_deep_it_goes(engine, spec):
    """Items beyond are not run, and are counted in the report."""
    report = engine.expand(count_down, [5], max_depth=2, strategy=spec).collect()

    assert Counter(report.values) == {5: 1, 4: 2, 3: 4}
    assert report.unfollowed == {"max_depth": 8}
    assert (report.ok, report.stopped) == (True, None)
    assert "unfollowed: max_depth=8" in repr(report)


def test_max_depth_zero_runs_the_seeds(engine):
    """Seeds are at depth 0."""
    report = engine.expand(count_down, [1, 2], max_depth=0, strategy="sequential").collect()

    assert (report.values, report.unfollowed) == ([1, 2], {"max_depth": 4})


@pytest.mark.parametrize("most", [1, 5, 100])
def test_max_tasks_is_how_many_are_run(engine, spec, most):
    """No more tasks are run; the report is partial, and counts what was known and left."""
    report = engine.expand(count_down, [1000], max_tasks=most, strategy=spec).collect()

    assert len(report.values) == most
    assert report.unfollowed == {"max_tasks": most + 1}
    assert report.stopped == "max_tasks"


@pytest.mark.parametrize("seeds", [[3], iter([3])], ids=["sequence", "iterator"])
def test_a_bound_that_is_not_felt_is_not_told(engine, seeds):
    """With as many tasks as the bound allows, the run is whole."""
    report = engine.expand(count_down, seeds, max_tasks=15, max_depth=3).collect()

    assert (len(report), report.stopped, report.unfollowed, report.ok) == (15, None, {}, True)


@pytest.mark.parametrize(
    ("seeds", "left"),
    [(range(10), 7), (range(10**9), 10**9 - 3)],
)
def test_seeds_beyond_the_bound_are_counted(engine, seeds, left):
    """Of a sequence it is known how many were left."""
    report = engine.expand(abs, seeds, max_tasks=3, strategy="sequential").collect()

    assert (report.values, report.unfollowed) == ([0, 1, 2], {"max_tasks": left})
    assert report.stopped == "max_tasks"


def test_endless_seeds_end_with_the_bound(engine, spec):
    """A generator without end is read no further than need be."""
    report = engine.expand(abs, itertools.count(), max_tasks=50, strategy=spec).collect()

    assert sorted(report.values) == list(range(50))
    assert report.stopped == "max_tasks"


PAGES = {"/": "abc", "a": "/bd", "b": "ac", "c": "", "d": "e", "e": "/"}


def links_of(page):
    return Expansion(page, list(PAGES[page]))


def test_a_key_given_twice_means_visited(engine, spec):
    """Pages that link to each other in circles are each visited once."""
    report = engine.expand(links_of, ["/", "a", "/"], key=str, strategy=spec).collect()

    assert sorted(report.values) == sorted(PAGES)
    assert sorted(outcome.key for outcome in report) == sorted(PAGES)
    assert (report.ok, report.unfollowed) == (True, {})


@pytest.mark.parametrize("seeds", [["/"], ["c", "c"]])
def test_duplicates_can_be_refused(engine, spec, seeds):
    """With ``duplicates="raise"`` the run ends with the error of a key given twice."""
    outcomes = engine.expand(links_of, seeds, key=str, duplicates="raise", strategy=spec)
    with pytest.raises(DuplicateKeyError) as caught:
        outcomes.collect()

    assert caught.value.report.stopped == "input_failed"
    assert "duplicates='skip'" in caught.value.__notes__[0]


LONG_WAY = {
    "0": "15",
    "1": "2",
    "2": "3",
    "3": "4",
    "4": "5",
    "5": "6",
    "6": "7",
    "7": "8",
    "8": "",
}


def test_to_a_depth_and_once_the_nearest_go_first(engine):
    """A page met at the end of a long way does not hide what is near by a short one."""

    def links(page):
        return Expansion(page, list(LONG_WAY[page]))

    outcomes = engine.expand(links, ["0"], key=str, max_depth=4, strategy="sequential")
    report = outcomes.collect()

    assert report.values == ["0", "1", "5", "2", "6", "3", "7", "4", "8"]
    assert report.unfollowed == {}


def test_what_was_too_deep_and_then_near_was_followed(engine):
    """An item that one way would have led to too late, and another in time, is not missed."""
    links = {"s": "xy", "x": "z", "y": "", "z": "y"}
    report = engine.expand(
        lambda page: Expansion(page, list(links[page])),
        ["s"],
        key=str,
        max_depth=1,
        strategy="sequential",
    ).collect()

    assert (report.values, report.unfollowed) == (["s", "x", "y"], {"max_depth": 1})


def test_a_key_that_cannot_be_one_ends_the_run(engine, spec):
    """The error names the item by the way to it."""
    outcomes = engine.expand(
        look_up, ["a"], key=lambda name: "" if name == "c" else name, strategy=spec
    )
    with pytest.raises(ValueError, match="key of the item '0/1' has 0 bytes|'a/1' has 0 bytes"):
        outcomes.collect()


def test_keys_of_any_depth_are_short(engine):
    """A chain of two thousand items has keys that differ, and are the same each time."""

    def follow(number):
        return Expansion(number, [number - 1] if number else [])

    first, second = (
        [outcome.key for outcome in engine.expand(follow, [2000], strategy="sequential")]
        for _ in range(2)
    )

    assert first == second
    assert len(set(first)) == 2001
    assert max(map(len, first)) <= 512


def fail_first(path, number):
    tries = lines(path).count(str(number))
    note(path, number)
    if not tries:
        raise ConnectionError(number)
    return count_down(number)


@pytest.mark.parametrize("inner", ["sequential", "threads(max_workers=3)", "processes", "asyncio"])
def test_a_task_that_is_tried_again_leads_to_its_items_once(engine, tmp_path, inner):
    """Every task fails once and is tried again: still each child is run once."""
    pytest.importorskip("stratagem_retry")
    spec = f"retry({inner}, attempts=500, wait_initial=0.0, wait_jitter=0.0)"
    step = partial(fail_first, tmp_path / "tries")
    report = engine.expand(step, [3], strategy=spec).collect()

    assert Counter(report.values) == {3: 1, 2: 2, 1: 4, 0: 8}
    assert {outcome.attempts for outcome in report} <= {1, 2}


def fail_at_three(number):
    if number == 3:
        raise ValueError(number)
    return count_down(number)


def test_a_failed_task_leads_to_nothing(engine, spec):
    """Its outcome tells; the others go on."""
    report = engine.expand(fail_at_three, [3, 2], strategy=spec).collect()

    assert report.counts == {Status.OK: 7, Status.ERROR: 1}
    assert [o.parent for o in report if not o.ok] == [None]


def test_the_first_failure_may_end_it(engine, spec):
    """Under ``on_error="raise"`` nothing is run after it."""
    outcomes = engine.expand(fail_at_three, [5], strategy=spec, on_error="raise")
    with pytest.raises(ValueError, match="3") as caught:
        outcomes.collect()

    assert caught.value.report.stopped == "on_error"
    assert 0 < caught.value.report.counts.total() < 2**5


def test_a_run_that_was_stopped_counts_what_it_left(engine):
    """The items that waited when the first failure ended it are counted."""
    with pytest.raises(ValueError, match="3") as caught:
        engine.expand(fail_at_three, [5], strategy="sequential", on_error="raise").collect()

    assert caught.value.report.counts == {Status.OK: 2, Status.ERROR: 1}
    assert caught.value.report.unfollowed == {"stopped": 2}


def test_max_errors_ends_it(engine, spec):
    """So many failures stop the run."""
    report = engine.expand(fail_at_three, [6], strategy=spec, max_errors=2).collect()

    assert report.stopped == "max_errors"


def hang_at_one(number):
    if number == 1:
        threading.Event().wait()
    return count_down(number)


@pytest.mark.parametrize("spec", ["threads(max_workers=2)", "processes(max_workers=2)"])
def test_a_task_over_its_timeout_leads_to_nothing(spec):
    """The timeout holds for tasks of every depth."""
    with Engine(spec) as engine:
        report = engine.expand(hang_at_one, [2], timeout=2.0).collect()

    assert report.counts == {Status.OK: 1, Status.TIMEOUT: 2}


def for_ever(number):
    return Expansion(number, [number + 1, number + 2])


def test_leaving_early_ends_what_has_no_end(engine, spec):
    """An endless expansion ends when its reader leaves; values are values, also of what was left."""
    with engine.expand(for_ever, [0], strategy=spec) as outcomes:
        first = [next(outcomes) for _ in range(20)]

    assert all(isinstance(outcome.value, int) for outcome in first)
    report = outcomes.report
    assert report.stopped == "closed"
    assert all(isinstance(outcome.value, int | None) for outcome in report)
    assert report.unfollowed["stopped"] >= 1


def test_what_hooks_hear_is_one_story(spec):
    """A child is announced after its parent has ended; every task begins and ends once."""
    recorder = EventRecorder()
    with Engine(spec, plugins=[recorder]) as engine:
        engine.expand(look_up, ["a"]).collect()

    places = {event: place for place, event in enumerate(recorder.events)}
    for path in PATHS.values():
        assert recorder.of_task(path) == [
            Event("before_task", path),
            Event("after_task", path, "ok"),
        ]
        if parent := path.rpartition("/")[0]:
            ended = places[Event("after_task", parent, "ok")]
            assert ended < places[Event("before_task", path)]
    assert recorder.events[0] == Event("before_run")
    assert recorder.events[-1] == Event("after_run")
    assert recorder.overlaps == 0


def test_nobody_knows_how_many_there_will_be(engine):
    """The total of the run is unknown, also where the seeds are counted."""
    with engine.expand(look_up, ["a"], strategy="sequential") as outcomes:
        assert outcomes.run.total is None


def test_slow_readers_do_not_hold_children_back(engine):
    """What an outcome leads to begins when it is settled, not when the reader comes back."""
    begun = threading.Event()

    def step(name):
        if name == "f":
            begun.set()
        return look_up(name)

    with engine.expand(step, ["e"], strategy="threads") as outcomes:
        next(outcomes)

        assert begun.wait(PATIENCE)


def test_an_expansion_inside_a_task_shares_its_slot(engine):
    """Nested in a task, on one slot, it comes to its end; its seeds know their parent."""

    def outer():
        return [
            (o.key, o.parent) for o in engine.expand(look_up, ["e"], strategy=strategy)
        ] + nested([partial(look_up, "c")])

    with engine.strategy("threads(max_workers=1)") as strategy:
        report = engine.run([outer], strategy=strategy, key=lambda _: "outer")

    assert report.values == [[("0", "outer"), ("0/0", "0"), "C"]]


def parents_of_children():
    recorder = []

    class Listener:
        @stratagem.hookimpl
        def stratagem_before_task(self, task):
            recorder.append((task.key, task.parent))

    return recorder, Listener()


def test_children_of_nested_runs_know_their_parent():
    """Tasks started by a task name it; a run of its own has none."""
    seen, listener = parents_of_children()
    with Engine(plugins=[listener]) as engine:
        engine.run(
            [lambda: nested([partial(look_up, "c")])],
            strategy="threads",
            key=lambda _: "outer",
        )

    assert seen == [("outer", None), ("outer/0", "outer")]


def test_a_task_pickles_with_its_parent():
    """What crosses a border keeps the key of the parent."""
    task = Task(1, "0/1", "fn", abs, parent="0")

    assert pickle.loads(pickle.dumps(task)) == task


def test_the_caller_of_a_loop_expands_on_it(engine):
    """``aexpand`` runs async steps on the caller's loop."""

    async def expanded():
        loop = asyncio.get_running_loop()

        async def step(name):
            assert asyncio.get_running_loop() is loop
            return await look_up_async(name)

        async with engine.aexpand(step, ["a"], strategy="asyncio") as outcomes:
            return sorted([outcome.value async for outcome in outcomes])

    assert asyncio.run(expanded()) == list("ABCDEF")


def test_the_module_expands_too():
    """``stratagem.expand`` and ``aexpand`` use the default engine."""

    async def expanded():
        outcomes = stratagem.aexpand(look_up, ["e"], max_tasks=5, strategy="sequential")
        return [outcome.value async for outcome in outcomes]

    values = stratagem.expand(look_up, ["e"], max_depth=0, strategy="sequential").values()

    assert (values, asyncio.run(expanded())) == (["E"], ["E", "F"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_depth": -1}, "max_depth must be a whole number of at least 0, not -1"),
        ({"max_tasks": 0}, "max_tasks must be a whole number of at least 1, not 0"),
        ({"duplicates": "ignore"}, "duplicates must be 'skip' or 'raise', not 'ignore'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(engine, options, message):
    """The error names the option and what it may be."""
    with pytest.raises(ValueError, match=message):
        engine.expand(look_up, ["a"], **options)


def test_a_step_must_be_callable(engine):
    """The error says what was given instead."""
    with pytest.raises(TypeError, match="expand needs a function to call, not 'a'"):
        engine.expand("a", look_up)


@pytest.mark.parametrize("seed", range(20))
def test_no_wake_is_lost_whatever_the_timing(seed):
    """Random trees, strategies and bounds: every run ends, with as many tasks as it must have."""
    rng = random.Random(seed)
    sizes = [rng.choice([0, 0, 1, 1, 2, 3, 8]) for _ in range(400)]

    def step(place):
        return Expansion(place, range(place * 3 + 1, place * 3 + 1 + sizes[place % 400] % 4))

    most = rng.choice([None, 50])
    spec = rng.choice(["threads(max_workers=2)", "threads(max_workers=7)", "asyncio", "sequential"])
    seeds = rng.choice([list, iter])(range(rng.randrange(3)))
    with Engine(spec) as engine:
        report = engine.expand(step, seeds, max_depth=6, max_tasks=most).collect()

    assert report.counts.total() <= (most or 10**6)
    assert len({outcome.key for outcome in report}) == len(report)
