"""The strategy ``hybrid``: where each task runs, how long others wait, and how a run ends."""

import asyncio
import itertools
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial

import cloudpickle
import pytest

import stratagem
from stratagem import (
    CapabilityError,
    Engine,
    ExecutionStrategy,
    NestingError,
    SpecError,
    StrategyInfo,
    StreamingStrategy,
    Task,
    TaskLostError,
    hookimpl,
    invoke,
    nested,
    nested_async,
)
from stratagem.testing import Event, EventRecorder
from stratagem.testing.waiting import PATIENCE, until
from stratagem_builtin import (
    AsyncStrategy,
    ProcessPoolStrategy,
    SequentialStrategy,
    ThreadPoolStrategy,
)
from stratagem_hybrid import HybridStrategy, Route, calls_coroutine, has_tag, hybrid

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test


@pytest.fixture
def engine():
    with Engine() as made:
        yield made


@pytest.fixture
def gate():
    """Open it to let the tasks go that wait for it; it is open when the test is over."""
    made = threading.Event()
    yield made
    made.set()


def task(call=print, tags=()):
    return Task(0, "0", "task", call, tags=frozenset(tags))


def place(_item=None):
    """Tell where this runs: elsewhere, on an event loop, or in a thread of which strategy."""
    if multiprocessing.parent_process() is not None:
        return "process"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread().name.partition("-")[0]
    return "loop"


async def place_async(_item=None):
    await asyncio.sleep(0)
    return place()


def gives_coroutine():
    return place_async()


class Placed:
    """Be callable in every way there is."""

    def plain(self):
        return place()

    async def method(self):
        return place()

    async def __call__(self):
        return place()


class Untouched(StreamingStrategy):
    """Be a strategy that must get no task."""

    enforces_timeouts = True

    def stream(self, tasks):
        raise AssertionError("its stream was begun")


class Closing(StreamingStrategy):
    """Note that it was closed."""

    def __init__(self, closed, name, error=None):
        self.closed = closed
        self.name = name
        self.error = error

    def stream(self, tasks):
        return map(invoke, tasks)

    def close(self):
        self.closed.append(self.name)
        if self.error is not None:
            raise self.error


# Where each task runs.


def test_by_default_each_task_runs_where_it_is_best_off(engine):
    """Coroutines on a loop, what is tagged ``cpu`` in a process, the rest in threads; in order."""
    calls = [place, place_async, partial(place, 1), partial(place_async, 1), Placed().method]
    report = engine.run(
        calls * 3, strategy="hybrid", tags=lambda call: ["cpu"] if call is calls[2] else []
    )

    assert report.values == ["threads", "loop", "process", "loop", "loop"] * 3
    assert [outcome.index for outcome in report] == list(range(15))


@pytest.mark.parametrize(
    ("call", "is_one"),
    [
        (place, False),
        (place_async, True),
        (partial(place_async), True),
        (partial(partial(place_async, 1)), True),
        (partial(place), False),
        (Placed().plain, False),
        (Placed().method, True),
        (partial(Placed().method), True),
        (Placed(), True),
        (partial(Placed()), True),
        (gives_coroutine, False),
    ],
)
def test_a_coroutine_function_is_seen_through_what_wraps_it(call, is_one):
    """Partials, bound methods and callable objects count; nothing is called to find out."""
    assert calls_coroutine(task(call)) is is_one


def test_a_tag_is_seen_among_others():
    """A task has a tag or has not; a part of a word is none."""
    assert has_tag("cpu")(task(tags=["slow", "cpu"]))
    assert not has_tag("cpu")(task(tags=["cpus"]))


def test_a_tag_goes_before_what_a_task_calls(engine):
    """An async callable that is tagged ``cpu`` runs in a process."""
    report = engine.map(place_async, [1], strategy="hybrid", tags=["cpu"])

    assert report.values == ["process"]


@pytest.mark.parametrize(
    ("spec", "places"),
    [
        ("hybrid(sequential)", ["hybrid", "loop", "process", "hybrid"]),
        ("hybrid(sequential, cpu=None)", ["hybrid", "loop", "hybrid", "hybrid"]),
        ("hybrid(coroutines=None)", ["threads", "loop", "process", "threads"]),
        (
            "hybrid(cpu=threads, tags={'gpu': 'processes'})",
            ["threads", "loop", "threads", "process"],
        ),
        ("hybrid(threads, cpu=asyncio)", ["threads", "loop", "asyncio", "threads"]),
        (
            {"use": "hybrid", "tags": {"gpu": {"use": "processes", "max_workers": 1}}},
            ["threads", "loop", "process", "process"],
        ),
        (
            {"use": "hybrid", "otherwise": {"use": "sequential"}, "cpu": "threads"},
            ["hybrid", "loop", "threads", "hybrid"],
        ),
    ],
)
def test_each_rule_can_be_given_its_strategy(engine, spec, places):
    """As text or as a table; what is not given stays as it is by default."""
    tags = [[], [], ["cpu"], ["gpu"]]
    calls = [partial(place, 0), partial(place_async, 1), partial(place, 2), partial(place, 3)]
    report = engine.run(calls, strategy=spec, tags=lambda call: tags[call.args[0]])

    assert report.values == places


def test_the_first_rule_that_picks_a_task_has_it(engine):
    """Rules of one's own see the whole task, and are asked in their order."""
    with HybridStrategy(
        [
            Route("one", lambda task: task.call.args[0] == 1, SequentialStrategy()),
            Route("small", lambda task: task.call.args[0] < 3, AsyncStrategy()),
            Route("never", lambda _task: False, Untouched()),
        ],
        ThreadPoolStrategy(),
    ) as strategy:
        report = engine.map(place, range(5), strategy=strategy)

    assert report.values == ["asyncio", "hybrid", "asyncio", "threads", "threads"]


def test_a_strategy_without_tasks_starts_nothing(engine):
    """Nor does one whose run has no task at all."""
    with HybridStrategy([Route("cpu", has_tag("cpu"), Untouched())], Untouched()) as strategy:
        assert list(engine.run([], strategy=strategy)) == []

    with HybridStrategy([Route("cpu", has_tag("cpu"), Untouched())], SequentialStrategy()) as used:
        assert engine.map(abs, [-1, -2], strategy=used).values == [1, 2]


def test_one_strategy_may_serve_several_routes(engine):
    """They share its limit."""
    running = threading.Lock()

    def alone(number):
        assert running.acquire(blocking=False)
        time.sleep(0.002)  # a task takes its time
        running.release()
        return number

    with ThreadPoolStrategy(max_workers=1) as shared:
        strategy = HybridStrategy([Route("odd", lambda task: task.index % 2, shared)], shared)
        report = engine.map(alone, range(20), strategy=strategy)

    assert report.values == list(range(20))


def test_async_tasks_run_on_the_loop_of_who_awaits(engine):
    """``amap`` lends its loop to the coroutines of every route."""

    async def loop_id(_item):
        return id(asyncio.get_running_loop())

    async def caller():
        report = await engine.amap(loop_id, range(4), strategy="hybrid")
        return set(report.values) == {id(asyncio.get_running_loop())}

    assert asyncio.run(caller())


# Who waits for whom.


def test_a_route_without_room_holds_back_no_other_up_to_the_bound(gate):
    """While one is blocked others go on, until as many tasks wait as may; then nothing is taken."""
    recorder = EventRecorder()
    swift = threading.Semaphore(0)

    def work(number):
        if number % 2:
            swift.release()
        else:
            assert gate.wait(PATIENCE)
        return number

    with (
        HybridStrategy(
            [Route("blocked", lambda task: task.index % 2 == 0, ThreadPoolStrategy(1))],
            ThreadPoolStrategy(1),
            look_ahead=5,
        ) as strategy,
        Engine(plugins=[recorder]) as engine,
        engine.stream_map(work, itertools.count(), strategy=strategy) as stream,
    ):
        first = [next(stream).value for _ in range(5)]
        went_on = swift.acquire(timeout=0.3) and [swift.acquire(timeout=0.3) for _ in range(9)]
        taken = len(recorder.keys)
        gate.set()
        rest = [next(stream).value for _ in range(100)]

    assert first == [1, 3, 5, 7, 9]
    assert went_on == [True] * 4 + [False] * 5
    assert 11 <= taken <= 14  # one runs, five wait, five went by; and what was asked for just then
    assert len({*first, *rest}) == 105


def test_a_route_that_is_first_needed_late_is_found_past_a_blocked_one(engine, gate):
    """A strategy that had no task so far gets one though all that work are busy."""

    def work(number):
        if number < 3:
            assert gate.wait(PATIENCE)
        return number

    def items():
        yield from range(3)
        assert begun.wait(PATIENCE)
        yield 3

    begun = threading.Event()
    with (
        HybridStrategy(
            [Route("late", lambda task: task.index == 3, SequentialStrategy())],
            ThreadPoolStrategy(1),
        ) as strategy,
        engine.stream_map(work, items(), strategy=strategy) as stream,
    ):
        consumed = []
        consumer = threading.Thread(target=lambda: consumed.append(next(stream).value))
        consumer.start()
        begun.set()
        consumer.join(PATIENCE)
        gate.set()

    assert consumed == [3]


def test_routes_store_no_outcomes_of_their_own_while_nobody_reads():
    """With many routes no more is taken than with one: all of them share one bound."""
    recorder = EventRecorder()
    routes = [
        Route(str(n), lambda task, n=n: task.index % 9 == n, ThreadPoolStrategy(1))
        for n in range(8)
    ]
    with (
        HybridStrategy(routes, AsyncStrategy()) as strategy,
        Engine(plugins=[recorder]) as engine,
        engine.stream_map(abs, itertools.count(), strategy=strategy) as stream,
    ):
        next(stream)
        until(lambda: len(recorder.keys) > 250)
        rested = -1
        while rested != (rested := len(recorder.keys)):
            time.sleep(0.3)  # in which one that does not hold back would take more
        on = [next(stream).value for _ in range(1000)]

    assert rested < 500
    assert len(set(on)) == 1000


def test_no_thread_is_left_by_a_stream_that_ended(engine):
    """The threads that read the routes are gone when the last outcome is there."""
    engine.map(place, range(9), strategy="hybrid(threads)", tags=lambda item: ["cpu"] * (item % 2))
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("hybrid")]

    assert left == []


# Wrapping and being wrapped.


@pytest.mark.parametrize(
    "spec",
    [
        "retry(hybrid, wait_initial=0, wait_jitter=0)",
        (
            "hybrid(retry(threads, wait_initial=0, wait_jitter=0), "
            "coroutines=retry(asyncio, wait_initial=0, wait_jitter=0))"
        ),
        "hybrid(retry(hybrid, wait_initial=0, wait_jitter=0), coroutines=None)",
    ],
)
def test_failed_tasks_are_tried_again_within_and_without(spec):
    """Each attempt goes by the rules; listeners hear of a task once."""
    recorder = EventRecorder()
    failing = set(range(0, 40, 3))

    def once(number):
        if number in failing:
            failing.remove(number)
            raise ConnectionError
        return number

    async def once_async(number):
        return once(number)

    with Engine(spec, plugins=[recorder]) as engine:
        report = engine.run([partial((once, once_async)[n % 2], n) for n in range(40)])

    assert report.values == list(range(40))
    assert [outcome.attempts for outcome in report] == [1 + (n % 3 == 0) for n in range(40)]
    assert recorder.of_task("0") == [Event("before_task", "0"), Event("after_task", "0", "ok")]


@pytest.mark.parametrize("depth", [1, 4])
def test_children_go_by_the_rules_and_share_the_limits(engine, depth):
    """Sync and async generations in turn, with one slot each: no deadlock, one at a time."""
    lock, running, most = threading.Lock(), [0, 0], [0, 0]

    def leaf(kind):
        with lock:
            running[kind] += 1
            most[kind] = max(most[kind], running[kind])
        time.sleep(0.002)  # a task takes its time
        with lock:
            running[kind] -= 1
        return [place()]

    def branch(depth):
        if depth == 0:
            return leaf(0)
        one, other = nested([partial(branch_async, depth - 1), partial(branch, depth - 1)])
        return one + other

    async def branch_async(depth):
        if depth == 0:
            return leaf(1)
        calls = [partial(branch, depth - 1), partial(branch_async, depth - 1)]
        one, other = await nested_async(calls)
        return one + other

    spec = "hybrid(threads(max_workers=1), coroutines=asyncio(max_concurrency=1))"
    report = engine.map(branch, [depth] * 4, strategy=spec)

    assert {where for value in report.values for where in value} == {"loop", "threads"}
    assert [len(value) for value in report.values] == [2**depth] * 4
    assert most == [1, 1]


def test_children_of_a_task_in_a_worker_go_by_the_rules(engine):
    """A parent in a process has its children run here: on the loop, and in threads."""

    def parent(_item):
        return [place(), *nested([place, place_async])]

    report = engine.map(parent, range(3), strategy="hybrid", tags=["cpu"])

    assert report.values == [["process", "threads", "loop"]] * 3


def test_run_tasks_gives_results_in_order():
    """A hybrid is a strategy as any other, also in the hands of an orchestrator of old."""
    with hybrid(cpu=None) as strategy:
        results = strategy.run_tasks([place, place_async, place])

    assert results == ["threads", "loop", "threads"]


# How a run ends.


@pytest.mark.parametrize("read", [0, 1])
def test_closing_stops_all_routes_within_their_grace(engine, gate, read):
    """Coroutines are cancelled, threads left after their grace, what waits never begins."""
    begun, cancelled = threading.Semaphore(0), []

    def block(_item):
        begun.release()
        gate.wait(PATIENCE)

    async def block_async(_item):
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    calls = [partial(place, 0)] * read + [partial(block, 0), partial(block_async, 0)] * 3
    spec = "hybrid(threads(max_workers=1, grace=0.2), coroutines=asyncio(grace=5))"
    stream = engine.stream(calls, strategy=spec)
    consumer = threading.Thread(target=list, args=(stream,))
    consumer.start()
    assert all(begun.acquire(timeout=PATIENCE) for _ in range(4))
    started = time.monotonic()
    stream.close()
    seconds = time.monotonic() - started
    consumer.join(PATIENCE)

    assert 0.2 <= seconds < 3
    assert [o.status.value for o in stream.report] == ["ok"] * read + ["cancelled"] * 6
    assert cancelled == [True] * 3
    assert not begun.acquire(blocking=False)


class Breaking(StreamingStrategy):
    """Be a strategy that breaks with its second task, once others run."""

    def __init__(self, others_run, error):
        self.others_run = others_run
        self.error = error

    def stream(self, tasks):
        yield invoke(tasks.take())
        tasks.take()
        assert self.others_run.wait(PATIENCE)
        if self.error is not None:
            raise self.error


def mixed(others_run, answered):
    """Give tasks of two routes; those of the one end after the other has broken."""

    def odd(number):
        others_run.set()
        time.sleep(0.2)  # it is running while the other one breaks
        answered.append(number)
        return number

    return lambda number: odd(number) if number % 2 else number


def test_a_strategy_that_fails_ends_the_run_after_others_are_settled(engine):
    """Its error is raised and names the route; what ran elsewhere has its outcome."""
    others_run, answered = threading.Event(), []
    strategy = HybridStrategy(
        [Route("odd", lambda task: task.index % 2, ThreadPoolStrategy(1))],
        Breaking(others_run, OSError("the cluster is gone")),
    )
    with strategy, pytest.raises(OSError, match="the cluster is gone") as caught:
        engine.map(mixed(others_run, answered), range(100), strategy=strategy)

    assert caught.value.__notes__ == ["raised by the strategy of route 'otherwise' (Breaking)"]
    settled = {outcome.index: outcome.status for outcome in caught.value.report}
    assert settled[0] == "ok"
    assert settled[2] == "cancelled"
    assert [settled[number] for number in answered] == ["ok"] * len(answered)
    assert answered
    assert caught.value.report.stopped == "strategy_failed"


def test_tasks_of_a_strategy_that_ends_too_early_are_lost(engine):
    """The run ends, and says so; nothing waits for ever."""
    others_run, answered = threading.Event(), []
    strategy = HybridStrategy(
        [Route("odd", lambda task: task.index % 2, ThreadPoolStrategy(1))],
        Breaking(others_run, None),
    )
    with strategy:
        report = engine.map(mixed(others_run, answered), range(100), strategy=strategy)

    assert report.stopped == "strategy_ended"
    assert report[0].ok
    assert isinstance(report[2].error, TaskLostError)


def test_a_rule_that_raises_ends_the_run(engine):
    """As a key that can't be made does; the error names route and task, and has the report."""

    def rule(task):
        if task.index == 3:
            raise LookupError("no such customer")
        return False

    with (
        HybridStrategy([Route("large", rule, Untouched())], SequentialStrategy()) as strategy,
        pytest.raises(LookupError, match="no such customer") as caught,
    ):
        engine.map(abs, range(9), strategy=strategy)

    assert caught.value.__notes__ == ["raised by the rule of route 'large' for task '3'"]
    assert {o.status for o in caught.value.report} <= {"ok", "cancelled"}


INTERRUPTED = """
import asyncio, signal, time, stratagem
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
def block():
    print("begun", flush=True)
    time.sleep(60)
async def block_async():
    print("begun", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("stopping", flush=True)
try:
    stratagem.run([block, block_async], strategy="hybrid(threads(max_workers=1, grace=50))")
except KeyboardInterrupt as interrupt:
    print([outcome.status.value for outcome in interrupt.report])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no signals here")
def test_a_second_interrupt_waits_for_no_route():
    """The first lets what runs have its grace, the second ends the run at once."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
    )
    last_call = threading.Timer(PATIENCE, program.kill)
    last_call.start()
    try:
        begun = [program.stdout.readline() for _ in range(2)]
        program.send_signal(signal.SIGINT)
        stopping = program.stdout.readline()
        program.send_signal(signal.SIGINT)
        printed, _ = program.communicate(timeout=PATIENCE)
    finally:
        last_call.cancel()
        program.kill()
        program.communicate()

    assert (begun, stopping) == (["begun\n"] * 2, "stopping\n")
    assert printed == "['cancelled', 'cancelled']\n"


# What it can do, and what it says.


def test_it_can_do_what_all_of_its_strategies_can():
    """Where a task may run on other machines, that is so of the whole."""

    class Far(Untouched):
        distributed = True

    def able(*strategies):
        routes = [Route(str(n), has_tag(str(n)), s) for n, s in enumerate(strategies[1:])]
        with HybridStrategy(routes, strategies[0]) as made:
            return [
                name
                for name in (
                    "can_kill",
                    "shares_memory",
                    "isolates_crashes",
                    "distributed",
                    "enforces_timeouts",
                )
                if getattr(made, name)
            ]

    assert able(ThreadPoolStrategy(), AsyncStrategy()) == ["shares_memory", "enforces_timeouts"]
    assert able(ThreadPoolStrategy(), ProcessPoolStrategy()) == ["enforces_timeouts"]
    assert able(ProcessPoolStrategy()) == ["can_kill", "isolates_crashes", "enforces_timeouts"]
    assert able(SequentialStrategy(), AsyncStrategy()) == ["shares_memory"]
    assert able(Far(), SequentialStrategy()) == ["distributed"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("hybrid(sequential)", "in 'otherwise' (SequentialStrategy)"),
        ("hybrid(cpu=sequential)", "in 'cpu' (SequentialStrategy)"),
        ("retry(hybrid(tags={'gpu': 'sequential'}))", "in 'tags.gpu' (SequentialStrategy)"),
        (
            "hybrid(hybrid(coroutines=sequential))",
            "in 'otherwise' (HybridStrategy) in 'coroutines' (SequentialStrategy)",
        ),
    ],
)
def test_a_timeout_that_one_route_cannot_keep_is_refused_by_its_name(engine, spec, where):
    """Before anything runs, and with the names of strategies that can."""
    with pytest.raises(CapabilityError) as caught:
        engine.map(abs, [-1], strategy=spec, timeout=1)

    assert str(caught.value) == (
        f"strategy {spec!r} cannot stop a task {where}, so it takes no timeout; "
        "use one that can: asyncio, processes, threads"
    )


def test_a_timeout_is_kept_on_every_route(engine, gate):
    """A thread is abandoned, a coroutine cancelled, a process killed."""

    async def block_async():
        await asyncio.Event().wait()

    in_process = partial(time.sleep, 60)
    calls = [partial(gate.wait, PATIENCE), block_async, in_process, place]
    report = engine.run(
        calls,
        strategy="hybrid(cpu=processes(max_workers=1))",
        tags=lambda call: ["cpu"] if call is in_process else [],
        timeout=2,
    )

    assert [outcome.status.value for outcome in report] == ["timeout"] * 3 + ["ok"]
    assert [o.error.abandoned for o in report[:3]] == [True, False, False]


@pytest.mark.parametrize("error", [None, OSError("will not close")])
def test_closing_closes_every_strategy(error):
    """Also those after one that raises."""
    closed = []
    strategy = HybridStrategy(
        [Route(name, has_tag(name), Closing(closed, name, error)) for name in "ab"],
        Closing(closed, "otherwise"),
    )
    with nullcontext() if error is None else pytest.raises(OSError, match="will not close"):
        strategy.close()

    assert sorted(closed) == ["a", "b", "otherwise"]


def test_a_listener_may_start_no_run_on_a_route_of_what_it_observes():
    """That could wait for itself; the error says what to do."""
    refused = []

    class Listener:
        @hookimpl
        def stratagem_before_task(self, task):
            try:
                engine.map(abs, [-1], strategy=inner)
            except NestingError as error:
                refused.append(str(error))

    with (
        ThreadPoolStrategy(1) as inner,
        HybridStrategy([], inner) as strategy,
        Engine(plugins=[Listener()]) as engine,
    ):
        engine.map(abs, [-1], strategy=strategy)

    assert len(refused) == 1
    assert "a listener cannot start a run on the strategy that it observes" in refused[0]


# What is refused.


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hybrid(8)", "write hybrid(look_ahead=8)"),
        ("hybrid(threads, asyncio)", "too many positional arguments"),
        ("hybrid(threads, gpu=processes)", "unknown option 'gpu'; its options are: otherwise, "),
        ("hybrid(threads(workers=3))", "unknown option 'workers'"),
        ("hybrid(look_ahead=0)", "look_ahead must be a whole number of at least 1, not 0"),
        ("hybrid(look_ahead=True)", "look_ahead must be a whole number of at least 1, not True"),
        ("hybrid(cpu=7)", "route 'cpu' needs a strategy object, not 7"),
        ("hybrid(None)", "'None' is given to 'hybrid' without the name of an option"),
        ("hybrid(otherwise=None)", "route 'otherwise' needs a strategy object, not None"),
        ("hybrid(cpu='proceses')", "unknown strategy 'proceses'; known are: processes"),
        ("hybrid(tags={'gpu': 'proceses'})", "unknown strategy 'proceses'"),
        ("hybrid(tags={'gpu': 7})", "7 for 'gpu' in 'tags' is no strategy"),
        ("hybrid(tags='gpu')", 'such as {"gpu": "processes(max_workers=1)"}, not \'gpu\''),
        ("hybrid(tags={'gpu': processes})", "is not a literal value for 'tags'"),
        ({"use": "hybrid", "tags": {"gpu": {"max_workers": 1}}}, "needs its name under 'use'"),
    ],
)
def test_specs_that_make_no_sense_are_refused(engine, spec, message):
    """With a message that shows what is wrong and what there is."""
    with pytest.raises(SpecError) as caught:
        engine.strategy(spec)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", print, Untouched()), "the name of a route must be a word, not ''"),
        (("cpu", "cpu", Untouched()), "such as has_tag(\"cpu\"), not 'cpu'"),
        (("cpu", print, "processes"), "route 'cpu' needs a strategy object, not 'processes'"),
    ],
)
def test_routes_that_make_no_sense_are_refused(arguments, message):
    """Where they are made, naming the route."""
    with pytest.raises(TypeError) as caught:
        Route(*arguments)

    assert message in str(caught.value)


def test_a_hybrid_of_what_is_no_route_is_refused():
    """A pair is none, and two of one name could not be told apart."""
    with pytest.raises(TypeError, match=r"routes must each be a Route\(name, when, strategy\)"):
        HybridStrategy([("cpu", Untouched())], Untouched())
    with pytest.raises(ValueError, match="each route needs a name of its own"):
        HybridStrategy([Route("otherwise", print, Untouched())], Untouched())


def test_the_strategies_of_a_spec_come_from_the_engine_that_makes_it():
    """Those by default too: a plugin object of that engine may be any of them."""

    class Plugin:
        @hookimpl
        def stratagem_strategies(self):
            return [StrategyInfo("mine", Untouched)]

    with Engine(plugins=[Plugin()], block=["retry"]) as engine:
        strategy = engine.strategy("hybrid(mine, tags={'x': 'mine'})")

    kinds = {name: type(inner).__name__ for name, inner in strategy.inners.items()}
    assert kinds == {
        "tags.x": "Untouched",
        "cpu": "ProcessPoolStrategy",
        "coroutines": "AsyncStrategy",
        "otherwise": "Untouched",
    }


def test_in_code_specs_are_made_too():
    """``hybrid`` takes text where it takes a strategy; both are closed with it."""
    with hybrid("threads(max_workers=3)", tags={"gpu": SequentialStrategy()}) as strategy:
        assert strategy.inners["otherwise"].max_workers == 3
        assert isinstance(strategy, ExecutionStrategy)
        assert stratagem.map(place, [1], strategy=strategy, tags=["gpu"]).values == ["hybrid"]
