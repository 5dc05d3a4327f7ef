"""Stages: the outcomes of one run are the input of the next, with no barrier between them."""

import asyncio
import itertools
import sys
import threading
from functools import partial

import cloudpickle
import pytest

from stratagem import Engine, RunInterrupted, Status
from stratagem.testing import leftovers, take_stock
from stratagem.testing.waiting import PATIENCE, lines, note, until

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

ONE_AT_A_TIME = [
    "sequential",
    "threads(max_workers=1)",
    "processes(max_workers=1)",
    "asyncio(max_concurrency=1)",
]
CONCURRENT = ["threads(max_workers=3)", "processes(max_workers=2)", "asyncio(max_concurrency=3)"]


def double(number):
    return 2 * number


async def double_async(number):
    await asyncio.sleep(0)
    return 2 * number


def gated(gate, count=3):
    """Give 0, and the other numbers when the gate is open."""
    yield 0
    assert gate.wait(PATIENCE)
    yield from range(1, count)


def values_of(outcomes):
    return (outcome.value for outcome in outcomes)


def itself(outcomes):
    return outcomes


def unwrap_and_double(outcome):
    return 2 * outcome.unwrap()


@pytest.fixture(
    params=[
        *(pytest.param(spec, marks=pytest.mark.once) for spec in ONE_AT_A_TIME[1:]),
        *ONE_AT_A_TIME[:1],
        *CONCURRENT,
    ]
)
def strategy(request, engine):
    """Make a strategy object that all stages share."""
    with engine.strategy(request.param) as made:
        yield made


@pytest.mark.parametrize("function", [double, double_async])
def test_the_second_stage_starts_when_the_first_item_exists(engine, strategy, function):
    """With one strategy for both stages, an item is through before the next one enters."""
    through = threading.Event()
    first = engine.stream_map(function, gated(through), strategy=strategy)
    with engine.stream_map(function, values_of(first), strategy=strategy) as second:
        values = [next(second).value]
        through.set()
        values += [outcome.value for outcome in second]

    assert values[0] == 0
    assert sorted(values) == [0, 4, 8]


def test_a_stream_itself_is_an_input(engine, strategy):
    """Handed over as it is, it gives outcomes, failed ones too."""
    through = threading.Event()
    first = engine.stream_map(double, gated(through), strategy=strategy)
    with engine.stream_map(unwrap_and_double, first, strategy=strategy) as second:
        values = [next(second).value]
        through.set()
        values += [outcome.value for outcome in second]

    assert sorted(values) == [0, 4, 8]
    assert first.report.counts == {Status.OK: 3}


def test_three_stages_flow_into_each_other(engine, strategy):
    """An item is through all stages before the next one enters the first."""
    through = threading.Event()
    outcomes = engine.stream_map(double, gated(through, 40), strategy=strategy)
    for _ in range(2):
        outcomes = engine.stream_map(double, values_of(outcomes), strategy=strategy)
    with outcomes:
        values = [next(outcomes).value]
        through.set()
        values += [outcome.value for outcome in outcomes]

    assert sorted(values) == [8 * number for number in range(40)]


def test_long_stages_of_one_strategy_do_not_block_each_other(engine, strategy):
    """More items than any buffer between the stages holds come through, whoever has the slots."""
    first = engine.stream_map(double, range(1500), strategy=strategy)
    second = engine.stream_map(double, values_of(first), strategy=strategy)

    assert sorted(second.values()) == [4 * number for number in range(1500)]


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
def test_stages_take_turns_on_one_slot(engine, spec):
    """The slot goes to a waiting answer long before all questions are made."""
    handed_on, order = threading.Event(), []

    def make(number):
        if number == 1:
            assert handed_on.wait(PATIENCE)
        order.append(f"make {number}")
        return number

    def ask(number):
        order.append(f"ask {number}")

    def passed_on(outcomes):
        for outcome in outcomes:
            yield outcome.value
            handed_on.set()

    with engine.strategy(spec) as strategy:
        first = engine.stream_map(make, range(10), strategy=strategy)
        engine.stream_map(ask, passed_on(first), strategy=strategy).collect()

    assert order.index("ask 0") < order.index("make 5")


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
@pytest.mark.parametrize("count", [3, 700])
def test_stages_inside_a_task_share_its_one_slot(engine, spec, count):
    """A task that reads two stages of its own strategy lends them its slot, and gets it back."""
    with engine.strategy(spec) as strategy:

        def staged():
            first = engine.stream_map(double, range(count), strategy=strategy)
            return engine.stream_map(double, values_of(first), strategy=strategy).values()

        values = engine.run([staged], strategy=strategy).values[0]

    assert sorted(values) == [4 * number for number in range(count)]


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
def test_stages_do_not_take_the_slot_of_a_task_that_is_busy(engine, spec):
    """While the task that reads them is at work, on the one slot, no stage goes on."""
    busy, made = threading.Event(), []

    def passed_on(outcomes):
        for outcome in outcomes:
            yield outcome.value
            assert busy.wait(PATIENCE)

    with engine.strategy(spec) as strategy:

        def staged():
            first = engine.stream_map(made.append, gated(busy, 9), strategy=strategy)
            last = engine.stream_map(repr, passed_on(first), strategy=strategy)
            next(last)
            busy.set()
            threading.Event().wait(0.2)
            return len(made), len(list(last))

        values = engine.run([staged], strategy=strategy).values

    assert values == [(1, 8)]


@pytest.mark.parametrize("connect", [itself, values_of], ids=["stream", "generator"])
@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=2)", "asyncio"])
def test_closing_the_last_stage_closes_those_before_it(spec, connect):
    """What is in flight in an earlier stage ends within its grace; nothing is left running."""
    with Engine() as warm:
        warm.map(double_async, [1], strategy=spec)
    stock = take_stock()
    running, release = threading.Event(), threading.Event()

    def hold(number):
        if number == 1:
            running.set()
            assert release.wait(PATIENCE)
        return number

    with Engine() as engine:
        first = engine.stream_map(hold, itertools.count(), strategy=spec)
        second = engine.stream_map(repr, connect(first), strategy=spec)
        last = engine.stream_map(repr, connect(second), strategy=spec)
        next(last)
        assert running.wait(PATIENCE)
        last.stop()
        until(lambda: first.report.stopped == "closed")
        release.set()
        last.close()
        ended = [stage.report for stage in (first, second, last)]

    assert [report.stopped for report in ended] == ["closed"] * 3
    assert [outcome.status for outcome in ended[0] if outcome.index == 1] == [Status.OK]
    assert set(ended[0].counts) <= {Status.OK, Status.CANCELLED}
    assert leftovers(stock) == []


def hold_after_one(release, path, number):
    if number:
        note(path, number)
        until(release.exists)
    return number


def test_closing_the_last_stage_kills_what_earlier_ones_run_in_processes(tmp_path):
    """A worker of the first stage that does not end within the grace is killed."""
    with Engine("processes(max_workers=1)") as warm:
        warm.map(double, [1])
    stock = take_stock()
    hold = partial(hold_after_one, tmp_path / "never", tmp_path / "running")
    with Engine("processes(max_workers=1, grace=0.1)") as engine:
        first = engine.stream_map(hold, range(10))
        last = engine.stream_map(double, values_of(first), strategy="threads")
        next(last)
        until(lambda: lines(tmp_path / "running"))
        last.close()
        report = first.report

    assert report.counts == {Status.OK: 1, Status.CANCELLED: 1}
    assert leftovers(stock) == []


@pytest.mark.parametrize("connect", [itself, values_of], ids=["stream", "generator"])
def test_closing_a_stage_that_was_never_read_closes_those_before_it(engine, connect):
    """No stage has begun, and none begins."""
    first = engine.stream_map(double, range(3), strategy="threads")
    last = engine.stream_map(double, connect(first), strategy="threads")
    del first

    last.close()

    assert last.report.counts.total() == 0


def test_a_dropped_last_stage_stops_those_before_it(engine):
    """Nobody has to close what nobody holds."""
    read = []
    ended = threading.Event()

    def numbers():
        try:
            for number in range(10**9):
                read.append(number)
                yield number
        finally:
            ended.set()

    last = engine.stream_map(
        double, values_of(engine.stream_map(double, numbers(), strategy="threads"))
    )
    next(last)
    del last

    assert ended.wait(PATIENCE)
    assert len(read) < 10**6


def test_what_is_left_of_a_stream_can_be_read_on(engine):
    """A next stage that takes a part and ends does not stop the stream it took from."""
    first = engine.stream_map(double, range(10), strategy="sequential")
    taken = (next(first).value for _ in range(4))

    assert engine.map(double, taken, strategy="sequential").values == [0, 4, 8, 12]
    assert [outcome.value for outcome in first] == [8, 10, 12, 14, 16, 18]
    assert first.report.stopped is None


def test_a_failed_outcome_ends_no_stage(engine, strategy):
    """Failures of the first stage are outcomes; the second gets what the caller lets through."""
    first = engine.stream_map((12).__floordiv__, [1, 0, 2], strategy=strategy)
    report = engine.map(double, (o.value for o in first if o.ok), strategy=strategy)

    assert sorted(report.values) == [12, 24]
    assert [type(error) for error in first.report.errors] == [ZeroDivisionError]


def test_an_error_that_ends_the_first_stage_ends_the_second(engine, strategy):
    """``on_error="raise"`` in the first stage is raised by the second, with what it delivered."""
    through = threading.Event()

    def numbers():
        yield 1
        assert through.wait(PATIENCE)
        yield 0

    first = engine.stream_map((12).__floordiv__, numbers(), strategy=strategy, on_error="raise")
    second = engine.stream_map(double, values_of(first), strategy=strategy)
    values = [next(second).value]
    through.set()
    with pytest.raises(ZeroDivisionError) as caught:
        values += [outcome.value for outcome in second]

    assert values == [24]
    assert caught.value.report is second.report
    assert (first.report.stopped, second.report.stopped) == ("on_error", "input_failed")


def test_a_signal_to_the_first_stage_ends_the_second(engine, strategy):
    """What was taken is delivered, then the interruption is raised."""
    through = threading.Event()
    first = engine.stream_map(double, gated(through), strategy=strategy)
    second = engine.stream_map(double, first_values := values_of(first), strategy=strategy)
    values = [next(second).value]
    first.interrupt(15)
    through.set()
    with pytest.raises(RunInterrupted) as caught:
        values += [outcome.value for outcome in second]

    assert values == [0]
    assert caught.value.signum == 15
    assert (first.report.stopped, second.report.stopped) == ("interrupted", "input_failed")
    assert list(first_values) == []


def test_a_run_inside_the_input_is_left_to_end(engine):
    """A whole ``map`` that the input makes is not cut in two when the stage after it is closed."""
    running, release, made = threading.Event(), threading.Event(), []

    def hold(number):
        running.set()
        assert release.wait(PATIENCE)
        return number

    def numbers():
        made.append(engine.map(hold, range(4), strategy="threads(max_workers=1)").values)
        yield from made[0]

    last = engine.stream_map(double, numbers(), strategy="threads")
    reader = threading.Thread(target=last.collect, daemon=True)
    reader.start()
    assert running.wait(PATIENCE)
    last.close()
    release.set()
    until(lambda: made)

    assert made == [[0, 1, 2, 3]]


@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=1)"])
def test_an_earlier_stage_may_ask_the_last_one_to_close(engine, spec):
    """A task of the first stage that has seen enough ends all stages, and waits for nobody."""
    stages = []

    def number_until(number):
        if number == 3:
            stages[-1].stop()
            stages[-1].close()
        return number

    with engine.strategy(f"{spec}") as strategy:
        first = engine.stream_map(number_until, itertools.count(), strategy="sequential")
        second = engine.stream_map(double, values_of(first), strategy="sequential")
        stages += [first, second, engine.stream_map(double, values_of(second), strategy=strategy)]
        report = stages[-1].collect()

    assert report.stopped == "closed"
    assert [stage.report.stopped for stage in stages] == ["closed"] * 3


async def doubles_of(outcomes):
    async for outcome in outcomes:
        yield partial(double_async, outcome.value)


async def calls(numbers, through):
    for number in numbers:
        yield partial(double_async, number)
        await through.wait()


@pytest.mark.parametrize("spec", ["asyncio", "asyncio(max_concurrency=1)", "threads", "sequential"])
def test_async_stages_flow_into_each_other(engine, spec):
    """An ``astream`` is the input of the next, on the caller's loop, with no barrier."""

    async def staged():
        through = asyncio.Event()
        with engine.strategy(spec) as strategy:
            outcomes = engine.astream(calls(range(5), through), strategy=strategy)
            for _ in range(2):
                outcomes = engine.astream(doubles_of(outcomes), strategy=strategy)
            async with outcomes:
                values = [(await anext(outcomes)).value]
                through.set()
                values += [outcome.value async for outcome in outcomes]
        return values

    assert sorted(asyncio.run(staged())) == [0, 8, 16, 24, 32]


def test_an_async_stream_is_the_input_of_a_whole_run(engine):
    """``amap`` and ``arun`` read an ``astream``, and a plain stream, to their ends."""

    async def staged():
        open_gate = asyncio.Event()
        open_gate.set()
        first = engine.astream(calls(range(400), open_gate), strategy="asyncio")
        mapped = await engine.amap(unwrap_and_double, first, strategy="asyncio")
        plain = engine.stream_map(double, range(400), strategy="threads")
        run = await engine.arun(
            (partial(double_async, outcome.value) for outcome in plain), strategy="asyncio"
        )
        return mapped.values, run.values

    mapped, run = asyncio.run(staged())

    assert sorted(mapped) == sorted(run) == [4 * number for number in range(400)]


@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize("connect", [itself, doubles_of], ids=["stream", "generator"])
def test_leaving_the_last_async_stage_ends_those_before_it(engine, connect, count):
    """No thread and no task of the loop is left, also where the first stage waits for room."""

    async def hang():
        running.set()
        await asyncio.Event().wait()

    async def questions():
        for number in range(count):
            yield partial(double_async, number)
        yield hang

    async def call(outcome):
        return outcome

    async def staged():
        first = engine.astream(questions(), strategy="asyncio")
        calls = connect(first) if connect is doubles_of else (partial(call, o) async for o in first)
        async with engine.astream(calls, strategy="asyncio(max_concurrency=2)") as last:
            await anext(last)
            if count == 1:
                await running.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), PATIENCE)
        return first.report

    running = asyncio.Event()
    with Engine("asyncio") as warm:
        warm.map(double_async, [1])
    stock = take_stock()
    report = asyncio.run(staged())
    engine.close()

    assert report.stopped == "closed"
    assert leftovers(stock) == []


INTERRUPTED = """
import signal, threading, time
import stratagem

def hold(number):
    if number:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
    return number

first = stratagem.stream_map(hold, range(100), strategy="threads(max_workers=2)")
try:
    stratagem.map(repr, (o.value for o in first), strategy="threads(max_workers=2)")
except stratagem.RunInterrupted as stop:
    print(stop.report.stopped, first.report.stopped, first.report.counts.total() < 100)
"""


def test_a_signal_stops_all_stages(run_script):
    """The run that reads the last stage hears of a Ctrl-C and takes the others with it."""
    assert run_script(INTERRUPTED).split() == ["interrupted", "closed", "True"]


def test_what_a_task_of_an_earlier_stage_runs_is_its_own(engine):
    """A stage that the input opens is stopped, what its tasks read meanwhile is not cut short."""
    running, release, read = threading.Event(), threading.Event(), []

    def hold(number):
        running.set()
        assert release.wait(PATIENCE)
        return number

    def read_all(count):
        read.append([o.value for o in engine.stream_map(hold, range(count), strategy="asyncio")])

    def numbers():
        yield from values_of(engine.stream_map(read_all, [4], strategy="threads"))

    last = engine.stream_map(double, numbers(), strategy="threads")
    reader = threading.Thread(target=last.collect, daemon=True)
    reader.start()
    assert running.wait(PATIENCE)
    last.stop()
    release.set()
    last.close()

    assert [sorted(values) for values in read] == [[0, 1, 2, 3]]
