"""The engine for a caller with a loop, and HTTP clients that are bound to one."""

import asyncio
import contextvars
import itertools
import json
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stratagem import Engine
from stratagem.testing import EventRecorder
from stratagem_builtin import AsyncStrategy

httpx = pytest.importorskip("httpx")

PATIENCE = 20.0
SPECS = ["sequential", "threads(max_workers=2)", "asyncio", "retry(asyncio, attempts=1)"]
WORD = contextvars.ContextVar("WORD", default="unset")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections = set()

    def do_GET(self):
        self.connections.add(self.client_address)
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.connections = set()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.daemon_threads = True
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()
    thread.join(PATIENCE)


async def fetch(client, address, number):
    response = await client.get(f"{address}/{number}")
    return response.json()["path"]


@pytest.mark.parametrize(
    "spec", ["asyncio", "threads(max_workers=4)", "retry(asyncio, attempts=2)", "sequential"]
)
def test_one_client_serves_batch_after_batch(server, spec):
    """A client made once, bound to the loop of its first use, serves three runs in turn."""
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=3))
    with Engine(spec) as engine:
        batches = [
            engine.map(partial(fetch, client, server), range(start, start + 10)).values
            for start in (0, 10, 20)
        ]
        engine.run([client.aclose])

    assert batches == [[f"/{n}" for n in range(s, s + 10)] for s in (0, 10, 20)]
    assert 1 <= len(Handler.connections) <= 3


@pytest.mark.parametrize("spec", SPECS)
def test_one_client_serves_batch_after_batch_on_the_callers_loop(server, spec):
    """Under ``arun`` async tasks run on the caller's loop, where its client lives."""

    async def caller(engine):
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=3)) as client:
            await client.get(f"{server}/warm")
            return [
                (await engine.amap(partial(fetch, client, server), range(start, start + 10))).values
                for start in (0, 10, 20)
            ]

    with Engine(spec) as engine:
        batches = asyncio.run(caller(engine))

    assert batches == [[f"/{n}" for n in range(s, s + 10)] for s in (0, 10, 20)]
    assert 1 <= len(Handler.connections) <= 3


@pytest.mark.parametrize("spec", SPECS)
def test_async_tasks_run_on_the_loop_of_the_caller(spec):
    """``arun``, ``amap`` and ``astream`` run coroutines on the loop that awaits them."""

    async def where():
        return asyncio.get_running_loop()

    async def caller(engine):
        ran = await engine.arun([where, where])
        mapped = await engine.amap(lambda _: where(), range(2))
        async with engine.astream([where, where]) as stream:
            streamed = [outcome.value async for outcome in stream]
        return {*ran.values, *mapped.values, *streamed} == {asyncio.get_running_loop()}

    with Engine(spec) as engine:
        assert asyncio.run(caller(engine))


@pytest.mark.parametrize("spec", [*SPECS, "processes(max_workers=2)"])
def test_nothing_is_left_on_the_callers_loop(spec):
    """After ``arun``, a stream read out and one left early, the caller's task is alone."""
    calls = [partial(abs, -number) for number in range(20)]

    async def caller(engine):
        alone = {asyncio.current_task()}
        await engine.arun(calls)
        after_run = asyncio.all_tasks() - alone
        async with engine.astream(calls) as stream:
            _ = [outcome async for outcome in stream]
        after_stream = asyncio.all_tasks() - alone
        async with engine.astream(partial(abs, n) for n in itertools.count()) as stream:
            await anext(stream)
        after_leaving = asyncio.all_tasks() - alone
        return after_run, after_stream, after_leaving

    with Engine(spec) as engine:
        left = asyncio.run(caller(engine))

    assert left == (set(), set(), set())


@pytest.mark.parametrize("spec", ["asyncio(max_concurrency=2)", "threads(max_workers=2)"])
def test_a_cancelled_arun_settles_everything(spec):
    """When ``arun`` is cancelled, running coroutines are, no more begin, and all hear their end."""
    recorder, cancelled = EventRecorder(), []

    async def work(number):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    async def caller(engine):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.amap(work, range(100)), 0.2)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return left, time.monotonic() - began

    with Engine(spec, plugins=[recorder]) as engine:
        left, seconds = asyncio.run(caller(engine))

    assert left == set()
    assert sorted(cancelled) == [0, 1]
    assert seconds < 4  # less than the grace: nothing was waited for in vain
    assert sorted((e.hook, e.key, e.status) for e in recorder.events if e.key) == sorted(
        (hook, key, "" if hook == "before_task" else "cancelled")
        for key in recorder.keys
        for hook in ("before_task", "task_error", "after_task")
    )
    assert {"0", "1"} <= set(recorder.keys)
    assert recorder.events[-1].hook == "after_run"


def test_a_cancelled_run_tasks_async_starts_no_more():
    """The strategy's own async form is cancelled like ``arun``."""
    begun = []

    async def work(number):
        begun.append(number)
        await asyncio.Event().wait()

    async def caller(strategy):
        calls = [partial(work, number) for number in range(50)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(strategy.run_tasks_async(calls), 0.2)
        return asyncio.all_tasks() - {asyncio.current_task()}

    with AsyncStrategy(max_concurrency=2) as strategy:
        left = asyncio.run(caller(strategy))

    assert (left, begun) == (set(), [0, 1])


def test_outcomes_flow_while_the_caller_does_other_things():
    """Between two outcomes the caller's own tasks run."""
    release = asyncio.Event()

    async def work(number):
        if number == 1:
            await release.wait()
        return number

    async def caller(engine):
        async with engine.astream([partial(work, n) for n in range(2)]) as stream:
            first = await anext(stream)
            asyncio.get_running_loop().call_soon(release.set)
            return [first.value] + [outcome.value async for outcome in stream]

    with Engine("asyncio") as engine:
        assert asyncio.run(caller(engine)) == [0, 1]


def test_an_async_consumer_that_does_not_read_holds_the_run_back():
    """Of an endless input a bounded number of tasks begins while nobody reads."""
    begun = itertools.count()

    async def work():
        next(begun)

    async def caller(engine):
        async with engine.astream(work for _ in itertools.count()) as stream:
            await anext(stream)
            await asyncio.sleep(0.3)  # time to run away in
            return next(begun)

    with Engine("asyncio(max_concurrency=4)") as engine:
        assert asyncio.run(caller(engine)) < 2_000


READ = [*SPECS, "processes(max_workers=2)"]


def fail_at_thirds(number):
    if number % 3 == 0:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("spec", READ)
def test_failures_come_among_the_successes(spec):
    """A stream of both gives each outcome once, whoever reads it."""

    async def caller(engine):
        async with engine.astream([partial(fail_at_thirds, n) for n in range(600)]) as stream:
            outcomes = [outcome async for outcome in stream]
        return outcomes, stream.report

    with Engine(spec) as engine:
        outcomes, report = asyncio.run(caller(engine))

    assert sorted(outcome.index for outcome in outcomes) == list(range(600))
    assert [o.index for o in report if not o.ok] == list(range(0, 600, 3))
    assert report.counts == {"ok": 400, "error": 200}


@pytest.mark.parametrize("spec", READ)
def test_a_wait_that_was_given_up_costs_no_outcome(spec):
    """``wait_for`` over ``anext`` may run out again and again: all outcomes come."""

    async def caller(engine):
        stream = engine.astream([partial(time.sleep, 0.01) for _ in range(30)])
        outcomes = []
        while True:
            try:
                outcomes.append(await asyncio.wait_for(anext(stream), 0.003))
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return outcomes

    with Engine(spec) as engine:
        outcomes = asyncio.run(caller(engine))

    assert sorted(outcome.index for outcome in outcomes) == list(range(30))


@pytest.mark.parametrize("spec", READ)
def test_several_coroutines_may_read_one_stream(spec):
    """They share the outcomes between them, none twice, none lost."""

    async def read(stream):
        return [outcome.index async for outcome in stream]

    async def caller(engine):
        stream = engine.astream([partial(abs, -n) for n in range(500)])
        return await asyncio.gather(*(read(stream) for _ in range(4)))

    with Engine(spec) as engine:
        parts = asyncio.run(caller(engine))

    assert sorted(itertools.chain(*parts)) == list(range(500))


@pytest.mark.parametrize("spec", SPECS)
def test_who_waits_beside_one_that_gave_up_gets_the_outcome(spec):
    """Of two coroutines that await the next outcome one may leave: the other one is told of it."""

    async def caller(engine):
        release = asyncio.Event()
        stream = engine.astream([partial(abs, -1), release.wait])
        await anext(stream)
        staying = asyncio.ensure_future(anext(stream))
        leaving = asyncio.ensure_future(anext(stream))
        for _ in range(20):
            await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.wait([leaving])
        release.set()
        outcome = await asyncio.wait_for(staying, PATIENCE)
        await stream.aclose()
        return outcome.value

    with Engine(spec) as engine:
        assert asyncio.run(caller(engine)) is True


@pytest.mark.parametrize("spec", ["asyncio", "threads(max_workers=2)"])
def test_who_reads_without_a_pause_lets_others_run(spec):
    """The loop goes round while outcome after outcome is there already."""
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def caller(engine):
        counting = asyncio.ensure_future(count_turns())
        async for _ in engine.astream([partial(abs, n) for n in range(5_000)]):
            pass
        counting.cancel()

    with Engine(spec) as engine:
        asyncio.run(caller(engine))

    assert turns > 5


@pytest.mark.parametrize("spec", ["asyncio(max_concurrency=1)", "threads(max_workers=1)"])
def test_a_task_may_read_a_stream_of_its_own_strategy(spec):
    """A task that awaits a nested stream lends its slot, also when there is but one."""

    async def leaf(number):
        await asyncio.sleep(0)
        return number

    async def parent(engine):
        calls = [partial(leaf, number) for number in range(20)]
        return sorted([outcome.value async for outcome in engine.astream(calls)])

    async def caller(engine):
        return (await engine.amap(parent, [engine, engine])).values

    with Engine(spec) as engine:
        assert asyncio.run(caller(engine)) == [list(range(20))] * 2


@pytest.mark.parametrize("spec", READ)
def test_closing_a_stream_ends_the_wait_of_another_coroutine(spec):
    """Who awaits the next outcome when the stream is closed learns that it is over."""

    async def caller(engine):
        stream = engine.astream([partial(time.sleep, 0.1)] * 300)
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream, "over"))
        await asyncio.sleep(0)
        await stream.aclose()
        seen = [await waiting]
        while seen[-1] != "over":
            seen.append(await anext(stream, "over"))
        return stream.report.stopped

    with Engine(spec) as engine:
        assert asyncio.run(asyncio.wait_for(caller(engine), PATIENCE)) == "closed"


@pytest.mark.parametrize("spec", ["asyncio(max_concurrency=4)", "threads(max_workers=2)"])
def test_a_stream_that_is_dropped_stops_its_run_and_not_the_loop(spec):
    """Nobody waits on the loop for tasks that can't end while it waits."""
    begun = itertools.count()

    async def work(number):
        next(begun)
        if number:
            await asyncio.sleep(PATIENCE)

    async def caller(engine):
        before = asyncio.all_tasks()
        stream = engine.astream([partial(work, number) for number in range(100)])
        await anext(stream)
        began = time.monotonic()
        del stream
        while asyncio.all_tasks() - before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    with Engine(spec) as engine:
        seconds = asyncio.run(asyncio.wait_for(caller(engine), PATIENCE))

    assert seconds < 4  # less than the grace
    assert next(begun) < 100


@pytest.mark.parametrize("spec", ["asyncio", "threads"])
def test_a_run_that_a_coroutine_awaits_does_not_wait_for_its_reader(spec):
    """The snapshot tells who is waited for: the tasks, not the one who awaits them."""
    seen = []

    async def caller(engine):
        release = asyncio.Event()
        stream = engine.astream([asyncio.Event().wait, release.wait])
        stream_read = asyncio.ensure_future(anext(stream))
        while len(stream.run.snapshot().running) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        seen.append(stream.run.snapshot().awaits_reader)
        release.set()
        await stream_read
        seen.append(stream.run.snapshot().awaits_reader)
        await stream.aclose()

    with Engine(spec) as engine:
        asyncio.run(caller(engine))

    assert seen == [False, True]


def test_errors_of_the_input_are_raised_where_the_outcomes_are_awaited():
    """An async input that raises ends the stream with its error, report and all."""

    async def calls():
        yield partial(abs, -1)
        raise OSError("the line is dead")

    async def caller(engine):
        values = []
        with pytest.raises(OSError, match="the line is dead") as caught:
            async with engine.astream(calls()) as stream:
                async for outcome in stream:
                    values.append(outcome.value)
        return values, [outcome.value for outcome in caught.value.report]

    with Engine("asyncio") as engine:
        assert asyncio.run(caller(engine)) == ([1], [1])


@pytest.mark.parametrize("spec", SPECS)
def test_tasks_see_the_variables_of_the_coroutine_that_awaits(spec):
    """The context of the caller is the one that tasks run copies of."""

    async def read():
        return WORD.get()

    async def caller(engine):
        WORD.set("the caller's")
        return (await engine.arun([read, WORD.get])).values

    with Engine(spec) as engine:
        assert asyncio.run(caller(engine)) == ["the caller's"] * 2


def test_two_runs_of_one_loop_go_side_by_side():
    """Runs that wait for each other both end: neither holds the loop."""

    async def caller(engine):
        meet = asyncio.Barrier(2)

        async def work(_item):
            await meet.wait()
            return True

        reports = await asyncio.gather(engine.amap(work, [0]), engine.amap(work, [1]))
        return [report.values for report in reports]

    with Engine("asyncio") as engine:
        assert asyncio.run(caller(engine)) == [[True], [True]]


def test_a_cancelled_arun_carries_its_report():
    """What was done until then is with the CancelledError, as with all that a run raises."""

    async def main():
        begun = asyncio.Event()

        async def work(number):
            if number:
                begun.set()
                await asyncio.sleep(60)
            return number

        with Engine("asyncio(max_concurrency=1)") as engine:
            running = asyncio.ensure_future(engine.amap(work, range(5)))
            await begun.wait()
            running.cancel()
            try:
                await running
            except asyncio.CancelledError as error:
                return error.report
        return None

    report = asyncio.run(main())

    assert [outcome.status for outcome in report] == ["ok", "cancelled"]
    assert report.partial


def test_a_loop_that_ends_with_an_open_stream_starts_no_further_task():
    """What is cancelled with the loop is not taken for the end of its task."""
    begun = []

    async def work(number):
        begun.append(number)
        await asyncio.sleep(0.001 * (number % 7))

    async def read():
        async for outcome in engine.astream([partial(work, n) for n in range(2_000)]):
            if outcome.index == 5:
                held.append(len(begun))
                raise LookupError

    held = []
    with Engine("asyncio(max_concurrency=20)") as engine:
        with pytest.raises(LookupError):
            asyncio.run(read())

        assert len(begun) <= held[0] + 20


def test_a_stream_is_read_on_its_own_loop_alone():
    """On another one it says so, instead of waiting there for ever."""
    engine = Engine("asyncio")

    async def open_stream():
        stream = engine.astream([partial(asyncio.sleep, 0)] * 3)
        await anext(stream)
        return stream

    async def read(stream):
        async for _ in stream:
            pass

    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(open_stream())
    with pytest.raises(RuntimeError, match="only on the event loop"):
        asyncio.run(read(stream))
    loop.run_until_complete(stream.aclose())
    loop.close()
    engine.close()
