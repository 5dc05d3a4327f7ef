"""The engine: the same batch under every strategy, its options, and strategies that lie."""

import asyncio
import logging
import sys
import threading
import time
from functools import partial

import cloudpickle
import pytest

import stratagem
from stratagem import (
    CapabilityError,
    Engine,
    ExecutionStrategy,
    Outcome,
    Status,
    StrategyInfo,
    StrategyOptionError,
    StreamingStrategy,
    TaskLostError,
    UnknownStrategyError,
    hookimpl,
    invoke,
)
from stratagem.testing import Event, EventRecorder

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 20.0
PLAIN = ["sequential", "threads(max_workers=3)", "processes(max_workers=2)", "asyncio"]
RETRIED = [f"retry({spec}, attempts=2, wait_initial=0, wait_jitter=0)" for spec in PLAIN]


class RefusedError(Exception):
    pass


async def give_later(value):
    await asyncio.sleep(0)
    return value


async def fail_later(number):
    await asyncio.sleep(0)
    raise KeyError(number)


def fail(number):
    raise ValueError(f"no {number}")


def take_long(number):
    time.sleep(0.1)  # the slow one of the batch: others end before it where they can
    return number


def give_up(number):
    sys.exit(number)


KINDS = [lambda n: n * n, give_later, fail, fail_later, take_long, give_up, lambda n: give_later(n)]


def work(number):
    """Be a task of one of several kinds, by its number."""
    return KINDS[number % len(KINDS)](number)


EXPECTED = [
    (0, "ok", 0, None, ()),
    (1, "ok", 1, None, ()),
    (2, "error", None, ValueError, ("no 2",)),
    (3, "error", None, KeyError, (3,)),
    (4, "ok", 4, None, ()),
    (5, "error", None, SystemExit, (5,)),
    (6, "ok", 6, None, ()),
    (7, "ok", 49, None, ()),
]


def facts(outcome):
    error = outcome.error
    return (
        outcome.index,
        outcome.status,
        outcome.value,
        None if error is None else type(error),
        () if error is None else error.args,
    )


@pytest.mark.parametrize("spec", PLAIN + RETRIED)
def test_a_mixed_batch_is_the_same_under_every_strategy(spec):
    """Values, failures, slow, sync and async tasks: equal outcomes, order and events each time."""
    recorder = EventRecorder()
    with Engine(spec, plugins=[recorder]) as engine:
        report = engine.map(work, range(8))

    assert [facts(outcome) for outcome in report] == EXPECTED
    assert [outcome.key for outcome in report] == [str(number) for number in range(8)]
    assert {outcome.name for outcome in report} == {"work"}
    assert report.counts == {Status.OK: 5, Status.ERROR: 3}
    for index, status, *_ in EXPECTED:
        key = str(index)
        failed = [] if status == "ok" else [Event("task_error", key, status)]
        told = [Event("before_task", key), *failed, Event("after_task", key, status)]
        assert recorder.of_task(key) == told
    assert (recorder.events[0], recorder.events[-1]) == (Event("before_run"), Event("after_run"))
    assert (len(recorder.events), recorder.overlaps) == (2 + 2 * 8 + 3, 0)


@pytest.mark.parametrize("spec", PLAIN + RETRIED)
def test_outcomes_say_when_how_long_and_by_whom(spec):
    """Each outcome has its start, its run time without queueing, its worker and its attempts."""
    began = time.time()
    with Engine(spec) as engine:
        report = engine.map(work, range(8))

    ended = time.time()
    mendable = {ValueError, KeyError}
    for outcome in report:
        tried_again = "retry" in spec and type(outcome.error) in mendable
        assert outcome.attempts == (2 if tried_again else 1)
        assert began - 0.1 <= outcome.started_at <= ended + 0.1
        assert 0 <= outcome.seconds <= ended - began + 0.1
        assert outcome.worker
    assert report[4].seconds >= 0.1
    assert report.seconds >= 0.1


@pytest.mark.parametrize(
    "spec", ["sequential", "threads(max_workers=1)", "asyncio(max_concurrency=1)"]
)
def test_tasks_not_begun_never_begin_once_an_error_is_raised(engine, spec):
    """With ``on_error="raise"`` the first failure ends the run with a partial report."""
    begun = []

    def note_and_fail(number):
        begun.append(number)
        if number == 2:
            raise RefusedError(number)
        time.sleep(0.01)  # no task is so short that the caller could not look between two of them

    with pytest.raises(RefusedError) as caught:
        engine.map(note_and_fail, range(1_000), strategy=spec, on_error="raise")

    report = caught.value.report
    assert [outcome.index for outcome in report if outcome.started_at] == begun
    assert (report.stopped, report[2].status) == ("on_error", "error")
    assert len(begun) < 100


def test_an_error_that_would_end_the_program_is_raised_wrapped(engine):
    """With ``on_error="raise"`` a task's SystemExit does not end the caller's program."""
    with pytest.raises(stratagem.TaskExitError) as caught:
        engine.map(give_up, [3], strategy="threads", on_error="raise")

    assert isinstance(caught.value.__cause__, SystemExit)
    assert caught.value.report[0].error is caught.value.__cause__


def test_a_run_stops_at_max_errors_and_says_so(engine):
    """``max_errors`` counts failures alone, and what was done until then is in the report."""
    items = [0, 2, 7, 2, 14, 2, 21]
    report = engine.map(work, items, strategy="sequential", max_errors=2)

    assert [outcome.status for outcome in report] == ["ok", "error", "ok", "error"]
    assert (report.stopped, report.partial, report.ok) == ("max_errors", True, False)


def test_fewer_errors_than_max_errors_stop_nothing(engine):
    """A run that stays below ``max_errors`` goes to its end."""
    report = engine.map(work, [0, 2, 7, 2], strategy="sequential", max_errors=3)

    assert ([outcome.status for outcome in report], report.stopped) == (
        ["ok", "error", "ok", "error"],
        None,
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error must be 'collect' or 'raise'"),
        ({"max_errors": 0}, ValueError, "max_errors must be a whole number of at least 1"),
        ({"max_errors": True}, ValueError, "max_errors must be a whole number of at least 1"),
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds over 0"),
        ({"timeout": -1}, ValueError, "timeout must be a number of seconds over 0"),
        ({"timeout": True}, ValueError, "timeout must be a number of seconds over 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be a number of seconds over 0"),
        ({"timeout": "3"}, ValueError, "timeout must be a number of seconds over 0"),
        (
            {"strategy": "threads(max_workers=0)"},
            StrategyOptionError,
            "max_workers must be a whole",
        ),
        (
            {"strategy": "threads(max_workers=True)"},
            StrategyOptionError,
            "max_workers must be a who",
        ),
        (
            {"strategy": "threads(grace=-1)"},
            StrategyOptionError,
            "grace must be a number of seconds",
        ),
        (
            {"strategy": "asyncio(max_concurrency=0)"},
            StrategyOptionError,
            "max_concurrency must be",
        ),
        (
            {"strategy": "processes(max_workers=0)"},
            StrategyOptionError,
            "max_workers must be a who",
        ),
        (
            {"strategy": "processes(start_method='teleport')"},
            StrategyOptionError,
            "start_method must be one of .*spawn",
        ),
        (
            {"strategy": "processes(max_result_bytes=0)"},
            StrategyOptionError,
            "max_result_bytes must",
        ),
        ({"strategy": "thraeds"}, UnknownStrategyError, "known are: threads,"),
        ({"strategy": "sequential", "timeout": 1}, CapabilityError, "use one that can: .*threads"),
        ({"strategy": 8}, TypeError, "a strategy is given as text, as a table, or as"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["map", "stream_map"])
def test_options_that_make_no_sense_are_refused_before_anything_runs(
    engine, form, options, error, message
):
    """A wrong option is an error that names it and says what it may be; no task begins."""
    begun = []

    with pytest.raises(error, match=message):
        getattr(engine, form)(begun.append, [1, 2], **options)

    assert begun == []


def test_an_option_that_does_not_exist_is_refused(engine):
    """A typo in the name of an option does not pass silently."""
    begun = []

    with pytest.raises(TypeError, match="max_error"):
        engine.map(begun.append, [1], max_error=3)

    assert begun == []


@pytest.mark.parametrize(
    "spec", ["sequential", "threads(max_workers=1)", "asyncio(max_concurrency=1)"]
)
@pytest.mark.parametrize("form", [list, iter])
def test_an_input_that_cannot_be_called_is_named_by_its_index(engine, spec, form):
    """A non-callable ends the run with an error that names it; what came before is done."""
    calls = [partial(abs, -1), partial(abs, -2), 42, partial(abs, -3)]

    with pytest.raises(TypeError, match="input 2 is 42, which cannot be called") as caught:
        engine.run(form(calls), strategy=spec)

    assert [outcome.value for outcome in caught.value.report] == [1, 2]


@pytest.mark.parametrize("function", [None, 3, "abs"])
def test_map_needs_a_function(engine, function):
    """What can't be called is refused at once."""
    with pytest.raises(TypeError, match="map needs a function to call"):
        engine.map(function, [1])


class Chosen(StreamingStrategy):
    """Answer for tasks as a function pleases."""

    shares_memory = True

    def __init__(self, answer=None):
        self.answer = answer
        self.closed = 0

    def stream(self, tasks):
        return self.answer(tasks) if self.answer else map(invoke, tasks)

    def close(self):
        self.closed += 1


def test_an_engine_keeps_and_closes_what_it_makes():
    """One spec makes one strategy, closed with the engine; an object given is left to its owner."""
    made, given = [], Chosen()

    class Plugin:
        @hookimpl
        def stratagem_strategies(self):
            return [StrategyInfo("chosen", lambda: made.append(Chosen()) or made[-1], "")]

    with Engine(plugins=[Plugin()]) as engine:
        for spec in ["chosen", "chosen", "chosen()", given]:
            engine.map(abs, [1], strategy=spec)
        closed_before = [strategy.closed for strategy in made]

    assert (len(made), closed_before) == (1, [0])
    assert (made[0].closed, given.closed) == (1, 0)


def test_a_closed_engine_makes_its_strategies_anew():
    """After ``close`` an engine can be used again."""
    with Engine("threads(max_workers=2)") as engine:
        before = engine.map(abs, [-1]).values
        engine.close()
        after = engine.map(abs, [-2]).values

    assert (before, after) == ([1], [2])


def test_engines_may_name_a_default_or_be_given_a_strategy():
    """What the engine was made with runs a batch that names nothing; the batch's word goes first."""
    with Engine("sequential") as engine, Chosen() as own:
        default = engine.map(lambda _: threading.current_thread(), [1])
        named = engine.map(lambda _: threading.current_thread(), [1], strategy="threads")
        with Engine(own) as other:
            given = other.map(abs, [-3])

    assert default.values == [threading.current_thread()]
    assert named.values[0].name.startswith("threads-")
    assert given.values == [3]


def test_the_module_level_functions_share_one_engine():
    """``map``, ``run``, ``stream`` and their async forms work without an engine in sight."""

    async def with_loop():
        report = await stratagem.arun([partial(give_later, 5)], strategy="asyncio")
        mapped = await stratagem.amap(give_later, [6], strategy="asyncio")
        async with stratagem.astream([partial(give_later, 7)], strategy="asyncio") as outcomes:
            streamed = [outcome.value async for outcome in outcomes]
        return report.values + mapped.values + streamed

    run = stratagem.run([partial(abs, -1)], strategy="sequential").values
    mapped = stratagem.map(abs, [-2], strategy="sequential").values
    with stratagem.stream([partial(abs, -3)], strategy="sequential") as outcomes:
        streamed = [outcome.value for outcome in outcomes]
    with stratagem.strategy("threads(max_workers=2)") as strategy:
        direct = strategy.run_tasks([partial(abs, -4)])

    assert run + mapped + streamed + direct + asyncio.run(with_loop()) == [1, 2, 3, 4, 5, 6, 7]
    assert stratagem.default_engine() is stratagem.default_engine()
    stratagem.default_engine().close()


def losing(tasks):
    for task in tasks:
        if task.index != 1:
            yield invoke(task)


def answering_twice(tasks):
    for task in tasks:
        yield invoke(task)
        yield invoke(task)


def answering_for_strangers(tasks):
    for task in tasks:
        yield Outcome(99, "99", "stranger", Status.OK, "not asked for")
        yield invoke(task)


@pytest.mark.parametrize("answer", [answering_twice, answering_for_strangers])
def test_an_answer_that_nobody_asked_for_is_dropped_and_logged(engine, caplog, answer):
    """A second answer and an answer for an unknown task change nothing but the log."""
    report = engine.map(abs, [-1, -2, -3], strategy=Chosen(answer))

    assert ([outcome.value for outcome in report], report.ok) == ([1, 2, 3], True)
    strays = [record for record in caplog.records if "stray_outcome" in record.getMessage()]
    assert len(strays) == 3


def test_a_task_without_an_answer_is_lost():
    """A strategy that forgets a task costs that task, which hears its end like any other."""
    recorder = EventRecorder()
    with Engine(plugins=[recorder]) as engine:
        report = engine.map(abs, [-1, -2, -3], strategy=Chosen(losing))

    assert [outcome.status for outcome in report] == ["ok", "lost", "ok"]
    assert isinstance(report[1].error, TaskLostError)
    assert recorder.of_task("1") == [
        Event("before_task", "1"),
        Event("task_error", "1", "lost"),
        Event("after_task", "1", "lost"),
    ]


def test_a_strategy_that_ends_early_gives_a_partial_report(engine):
    """What it never took is missing, and the report says why."""

    def lazy(tasks):
        yield invoke(tasks.take())

    report = engine.map(abs, range(5), strategy=Chosen(lazy))

    assert ([outcome.value for outcome in report], report.stopped) == ([0], "strategy_ended")


@pytest.mark.parametrize("garbage", [None, "an outcome", 3])
def test_a_strategy_that_yields_garbage_ends_the_run_with_a_report(engine, garbage):
    """What is no outcome is an error that names the strategy's fault, with what was done."""

    def answer(tasks):
        yield invoke(tasks.take())
        yield garbage

    with pytest.raises(Exception, match=".") as caught:
        engine.map(abs, [-1, -2, -3], strategy=Chosen(answer))

    assert [outcome.value for outcome in caught.value.report] == [1]
    assert caught.value.report.stopped == "strategy_failed"


@pytest.mark.parametrize("form", ["map", "stream_map"])
def test_a_strategy_that_raises_midway_ends_the_run_with_a_report(form):
    """Its error is raised, carries what was done, and every task announced hears its end."""
    recorder = EventRecorder()

    def answer(tasks):
        yield invoke(tasks.take())
        tasks.take()
        raise RefusedError("no more")

    with (
        Engine(plugins=[recorder]) as engine,
        pytest.raises(RefusedError, match="no more") as caught,
    ):
        list(getattr(engine, form)(abs, [-1, -2, -3], strategy=Chosen(answer)))

    report = caught.value.report
    assert [outcome.status for outcome in report] == ["ok", "cancelled"]
    assert report.stopped == "strategy_failed"
    assert recorder.events == [
        Event("before_run"),
        Event("before_task", "0"),
        Event("after_task", "0", "ok"),
        Event("before_task", "1"),
        Event("task_error", "1", "cancelled"),
        Event("after_task", "1", "cancelled"),
        Event("after_run"),
    ]


class InBatches(ExecutionStrategy):
    """Run batches as a function pleases."""

    batch_size = 2

    def __init__(self, answer):
        self.answer = answer

    def run_tasks(self, callables):
        return self.answer(callables)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda calls: [call() for call in calls[:-1]], "gave 1 results for 2 callables"),
        (lambda calls: [call() for call in calls] + [None], "gave 3 results for 2 callables"),
        (lambda calls: ["an answer"] * len(calls), "gave no answer for it"),
        (lambda _calls: None, "raised TypeError"),
        (lambda _calls: sys.exit(3), "raised SystemExit: 3"),
    ],
)
def test_a_batch_that_is_answered_wrongly_is_lost(engine, answer, message):
    """A strategy of ``run_tasks`` that gives other than one result each loses that batch alone."""
    calls = []

    def first_wrong(callables):
        calls.append(len(callables))
        return answer(callables) if len(calls) == 1 else [call() for call in callables]

    report = engine.map(abs, [-1, -2, -3, -4], strategy=InBatches(first_wrong))

    assert [outcome.status for outcome in report] == ["lost", "lost", "ok", "ok"]
    assert message in str(report[0].error)


@pytest.mark.parametrize("spec", ["sequential", "threads", "asyncio"])
@pytest.mark.parametrize("error", [StopIteration, GeneratorExit, StopAsyncIteration])
@pytest.mark.parametrize("form", ["generator", "iterator"])
def test_an_input_that_raises_what_ends_iterators(engine, spec, error, form):
    """Whatever the input raises, an error says so, or it is an end where Python says it is one."""

    class Items:
        def __init__(self):
            self.left = [1, 2]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise error("odd")
            return self.left.pop(0)

    def generate():
        yield from [1, 2]
        raise error("odd")

    items = generate() if form == "generator" else Items()
    if form == "iterator" and error is StopIteration:
        assert engine.map(abs, items, strategy=spec).values == [1, 2]
        return

    with pytest.raises(BaseException, match="odd|raised Stop") as caught:
        engine.map(abs, items, strategy=spec)

    assert [outcome.value for outcome in caught.value.report] == [1, 2]
    assert caught.value.report.stopped == "input_failed"


def test_a_lost_outcome_is_logged_quietly_unless_asked(engine, caplog):
    """Below WARNING nothing is logged of a run that nobody asked to log."""
    with caplog.at_level(logging.WARNING):
        engine.map(abs, range(3), strategy="threads")

    assert caplog.records == []
