"""The hooks of a run: which are called when, in what order, and that none can harm the run."""

import ast
import functools
import inspect
import logging
import sys
import threading

import pytest

from stratagem import Engine, NestingError, Status, hookimpl, hookspecs
from stratagem.plugins import hook_names

PATIENCE = 20.0
CONCURRENT = ["threads", "asyncio"]
ALL = ["sequential", *CONCURRENT]


class Recorder:
    """Note every call of a hook, and whether one began before another had ended."""

    def __init__(self):
        self.events = []
        self.calling = threading.Lock()
        self.overlaps = 0

    def note(self, *event):
        if not self.calling.acquire(blocking=False):
            self.overlaps += 1
            return
        self.events.append(event)
        self.calling.release()

    @hookimpl
    def stratagem_before_run(self, run):
        self.note("before_run", run.total)

    @hookimpl
    def stratagem_before_task(self, task):
        self.note("before", task.index)

    @hookimpl
    def stratagem_task_error(self, outcome, task):
        self.note("error", task.index, outcome.status)

    @hookimpl
    def stratagem_after_task(self, task, outcome):
        self.note("after", task.index, outcome.status)

    @hookimpl
    def stratagem_after_run(self, report):
        self.note("after_run", dict(report.counts))


def of_task(events, index):
    return [event for event in events if event[0].endswith("_run") is False and event[1] == index]


def odd_fails(number):
    if number % 2:
        raise ValueError(number)
    return number


def test_the_whole_sequence_of_a_run_is_told():
    """In a run of one thing at a time, listeners hear of all of it in its order."""
    recorder = Recorder()

    with Engine(plugins=[recorder]) as engine:
        engine.map(odd_fails, range(3), strategy="sequential")

    assert recorder.events == [
        ("before_run", 3),
        ("before", 0),
        ("after", 0, "ok"),
        ("before", 1),
        ("error", 1, "error"),
        ("after", 1, "error"),
        ("before", 2),
        ("after", 2, "ok"),
        ("after_run", {"ok": 2, "error": 1}),
    ]


@pytest.mark.parametrize("strategy", ALL)
def test_each_task_is_told_of_in_order_and_once(strategy):
    """For each task: before, error if it failed, after; and the run around them all."""
    recorder = Recorder()

    with Engine(plugins=[recorder]) as engine:
        engine.map(odd_fails, range(200), strategy=strategy)

    ok, bad = Status.OK, Status.ERROR
    for index in range(200):
        expected = [("before", index), ("after", index, ok)]
        if index % 2:
            expected = [("before", index), ("error", index, bad), ("after", index, bad)]
        assert of_task(recorder.events, index) == expected
    assert recorder.events[0] == ("before_run", 200)
    assert recorder.events[-1] == ("after_run", {"ok": 100, "error": 100})
    assert recorder.overlaps == 0


class FailedCalls:
    """Call the tasks that failed once more, and keep what comes of it."""

    def __init__(self):
        self.again = []

    @hookimpl
    def stratagem_task_error(self, task):
        try:
            task.call()
        except ValueError as error:
            self.again.append((task.index, task.key, task.name, str(error)))


@pytest.mark.parametrize(
    "made_of", [range, lambda size: list(range(size)), lambda size: iter(range(size))]
)
@pytest.mark.parametrize("strategy", ALL)
def test_who_hears_of_failures_alone_is_given_their_whole_tasks(strategy, made_of):
    """A listener to errors gets the task with its call, though no task was kept for it."""
    listener = FailedCalls()

    with Engine(plugins=[listener]) as engine:
        engine.map(odd_fails, made_of(4), strategy=strategy)
        engine.map(odd_fails, made_of(4), key=lambda number: f"n{number}", strategy=strategy)
        engine.run((functools.partial(odd_fails, n) for n in made_of(4)), strategy=strategy)

    assert sorted(listener.again) == sorted(
        (number, key, "odd_fails", str(number))
        for number in (1, 3)
        for key in (str(number), f"n{number}", str(number))
    )


@pytest.mark.parametrize("strategy", CONCURRENT)
def test_before_returns_before_the_task_begins(strategy):
    """No task runs that its ``before`` hook has not let go."""
    returned = set()

    class Slow:
        @hookimpl
        def stratagem_before_task(self, task):
            threading.Event().wait(0.002)
            returned.add(task.index)

    with Engine(plugins=[Slow()]) as engine:
        report = engine.map(lambda index: index in returned, range(30), strategy=strategy)

    assert report.values == [True] * 30


@pytest.mark.parametrize("strategy", ALL)
def test_after_returns_before_the_outcome_is_handed_on(strategy):
    """Whoever holds an outcome knows that its ``after`` hook has returned."""
    returned = []

    class After:
        @hookimpl
        def stratagem_after_task(self, task):
            returned.append(task.index)

    with (
        Engine(plugins=[After()]) as engine,
        engine.stream_map(str, range(100), strategy=strategy) as stream,
    ):
        known = [outcome.index in returned for outcome in stream]

    assert known == [True] * 100


@pytest.mark.parametrize("strategy", CONCURRENT)
def test_no_two_hooks_of_a_run_are_called_at_once(strategy):
    """However many tasks begin and end together, hooks take turns."""
    inside = threading.Lock()
    overlaps = []

    class Jealous:
        @hookimpl
        def stratagem_before_task(self):
            self.hold("before")

        @hookimpl
        def stratagem_after_task(self):
            self.hold("after")

        def hold(self, which):
            if not inside.acquire(blocking=False):
                overlaps.append(which)
                return
            threading.Event().wait(0.001)
            inside.release()

    with Engine(plugins=[Jealous()]) as engine:
        report = engine.map(str, range(60), strategy=strategy)

    assert (len(report.values), overlaps) == (60, [])


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(3), GeneratorExit()])
@pytest.mark.parametrize("strategy", ALL)
def test_a_listener_that_raises_costs_nothing_but_itself(strategy, error, caplog):
    """The run goes on, other listeners hear all, the log has one line, the report the count."""

    class Broken:
        @hookimpl(tryfirst=True)
        def stratagem_before_task(self):
            raise error

        @hookimpl(tryfirst=True)
        def stratagem_after_task(self):
            raise error

    recorder = Recorder()
    with (
        caplog.at_level(logging.ERROR, "stratagem"),
        Engine(plugins=[Broken(), recorder]) as engine,
    ):
        report = engine.map(str, range(20), strategy=strategy)

    assert report.values == [str(n) for n in range(20)]
    assert [len(of_task(recorder.events, index)) for index in range(20)] == [2] * 20
    failures = {(f.hook, f.plugin, f.error, f.count) for f in report.hook_failures}
    assert failures == {
        ("stratagem_before_task", "Broken", error, 20),
        ("stratagem_after_task", "Broken", error, 20),
    }
    assert sorted(record.getMessage() for record in caplog.records) == [
        "hook_failed: plugin 'Broken' raised in stratagem_after_task; the run goes on",
        "hook_failed: plugin 'Broken' raised in stratagem_before_task; the run goes on",
    ]


def test_a_listener_takes_the_arguments_it_wants():
    """Listeners may take all arguments of a hook, some of them in any order, or none."""
    heard = []

    class Modest:
        @hookimpl
        def stratagem_before_run(self):
            heard.append("none")

        @hookimpl
        def stratagem_after_task(self, outcome, run):
            heard.append((outcome.value, run.name, run.strategy))

        @hookimpl
        def stratagem_after_run(self, run, report):
            heard.append(report.run_id == run.id)

    with Engine(plugins=[Modest()]) as engine:
        engine.map(abs, [-1], strategy="sequential")

    assert heard == ["none", (1, "abs", "sequential"), True]


def test_a_slow_listener_is_named_once(monkeypatch, caplog):
    """One that holds the run up is warned of, with its plugin and hook, one time."""
    monkeypatch.setattr(sys.modules["stratagem.run"], "SLOW_HOOK", 0.01)

    class Slow:
        @hookimpl
        def stratagem_before_task(self):
            threading.Event().wait(0.02)

    with caplog.at_level(logging.WARNING, "stratagem"), Engine(plugins=[Slow()]) as engine:
        engine.run([int] * 3, strategy="sequential")

    (record,) = caplog.records
    assert record.getMessage().startswith(
        "hook_slow: plugin 'Slow' took 0.0 s in stratagem_before_task"
    )


class Nester:
    """Start a run in a hook and note what came of it."""

    def __init__(self, strategy):
        self.strategy = strategy
        self.engine = None
        self.got = []

    def start_a_run(self):
        try:
            self.got.append(self.engine.run([int, str], strategy=self.strategy).values)
        except NestingError as error:
            self.got.append(str(error))


class NestsBefore(Nester):
    @hookimpl
    def stratagem_before_task(self, run):
        if run.total == 1:
            self.start_a_run()


class NestsAfter(Nester):
    @hookimpl
    def stratagem_after_task(self, run):
        if run.total == 1:
            self.start_a_run()


def run_nested(plugin, strategy):
    with Engine(plugins=[plugin]) as engine:
        plugin.engine = engine
        done = []
        runner = threading.Thread(
            target=lambda: done.append(engine.run([float], strategy=strategy)), daemon=True
        )
        runner.start()
        runner.join(PATIENCE)
        assert done, "the run hangs"
    return done[0].values


@pytest.mark.parametrize(
    "strategy", ["sequential", "threads(max_workers=1)", "asyncio(max_concurrency=1)"]
)
@pytest.mark.parametrize("nests", [NestsBefore, NestsAfter])
def test_a_listener_may_start_no_run_on_the_strategy_it_observes(strategy, nests):
    """A run that would wait for itself is refused at once, and the observed one goes on."""
    plugin = nests(strategy)

    values = run_nested(plugin, strategy)

    assert values == [0.0]
    assert plugin.got == [
        f"a listener cannot start a run on the strategy that it observes ({strategy}): give the "
        "run a strategy of its own, or start it after the observed run has ended"
    ]


@pytest.mark.parametrize("nests", [NestsBefore, NestsAfter])
def test_a_listener_may_start_a_run_on_another_strategy(nests):
    """A listener's run on a strategy of its own runs to its end within the hook."""
    plugin = nests("sequential")

    values = run_nested(plugin, "threads(max_workers=1)")

    assert (values, plugin.got) == ([0.0], [[0, ""]])


class PerRun:
    """Offer a fresh recorder for each run that has a total."""

    def __init__(self):
        self.made = []

    @hookimpl
    def stratagem_listeners(self, run):
        if run.total is None:
            return None
        self.made.append(Recorder())
        return [self.made[-1]]


def test_listeners_may_live_for_one_run():
    """Objects offered for a run hear that run and no other."""
    offering = PerRun()

    with Engine(plugins=[offering]) as engine:
        for size in (1, 2):
            engine.map(str, range(size), strategy="sequential")
        engine.map(str, iter(range(3)), strategy="sequential")

    assert [recorder.events for recorder in offering.made] == [
        [
            ("before_run", size),
            *[event for n in range(size) for event in (("before", n), ("after", n, "ok"))],
            ("after_run", {"ok": size}),
        ]
        for size in (1, 2)
    ]


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(3)])
def test_a_plugin_that_cannot_offer_listeners_costs_nothing_but_itself(error):
    """A raise where listeners are offered stands in the report, and others listen all the same."""

    class Broken:
        @hookimpl
        def stratagem_listeners(self):
            raise error

    recorder = Recorder()
    with Engine(plugins=[Broken(), recorder]) as engine:
        report = engine.run([int], strategy="sequential")

    assert [event[0] for event in recorder.events] == ["before_run", "before", "after", "after_run"]
    assert [(f.plugin, f.hook, f.error, f.count) for f in report.hook_failures] == [
        ("Broken", "stratagem_listeners", error, 1)
    ]


@pytest.mark.parametrize("strategy", ALL)
def test_a_stopped_run_ends_every_task_that_was_announced(strategy):
    """When a run is closed early, each ``before`` has its ``after``, and the run its end."""
    recorder = Recorder()

    with Engine(plugins=[recorder]) as engine:
        with engine.stream_map(str, range(10_000), strategy=strategy) as stream:
            next(stream)
        stopped = stream.report.stopped

    begun = [event[1] for event in recorder.events if event[0] == "before"]
    ended = [event[1] for event in recorder.events if event[0] == "after"]
    assert sorted(begun) == sorted(ended)
    assert (stopped, recorder.events[-1][0]) == ("closed", "after_run")


class Closer:
    """Close the stream that it listens to at the third call."""

    def __init__(self):
        self.stream = None
        self.keys = []

    def close(self, task):
        self.keys.append(task.key)
        if len(self.keys) == 3:
            self.stream.close()


class ClosesBefore(Closer):
    @hookimpl
    def stratagem_before_task(self, task):
        self.close(task)


class ClosesAfter(Closer):
    @hookimpl
    def stratagem_after_task(self, task):
        self.close(task)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("closes", [ClosesBefore, ClosesAfter])
def test_a_listener_may_close_the_stream_that_it_is_called_for(strategy, closes):
    """A close by a listener only asks: the listener goes on, and the run ends after it."""
    closer, recorder = closes(), Recorder()

    with Engine(plugins=[recorder, closer]) as engine:
        closer.stream = engine.stream_map(str, range(1000), strategy=strategy)
        for _ in closer.stream:
            pass

    begun = [event[1] for event in recorder.events if event[0] == "before"]
    ended = [event[1] for event in recorder.events if event[0] == "after"]
    assert closer.stream.report.stopped == "closed"
    assert sorted(begun) == sorted(ended)
    assert {int(key) for key in closer.keys} <= set(ended)


@pytest.mark.parametrize("hook", sorted(hook_names()))
def test_every_hook_says_when_it_is_called_and_shows_how_it_is_written(hook):
    """The docstring of a hook tells when, what a raise does, and has an example of that hook."""
    text = inspect.getdoc(getattr(hookspecs, hook))

    assert "Called " in text
    assert "A raise " in text
    example = inspect.cleandoc(text.partition("::\n")[2])
    (written,) = ast.parse(example).body
    assert written.name == hook
    names = [argument.arg for argument in written.args.args]
    assert names == list(inspect.signature(getattr(hookspecs, hook)).parameters)
