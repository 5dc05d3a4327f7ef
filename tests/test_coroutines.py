"""The asyncio strategy: cancelling, threads for sync callables, one loop, contexts of their own."""

import asyncio
import contextvars
import logging
import threading
from functools import partial

import pytest

from stratagem import Engine, TaskTimeoutError
from stratagem_builtin import AsyncStrategy

PATIENCE = 20.0
WORD = contextvars.ContextVar("WORD", default="unset")


def test_a_task_past_its_deadline_is_cancelled(engine):
    """It gets a CancelledError, may clean up, and ends as ``timeout``; the others go on."""
    cleaned = []

    async def work(name):
        if name == "endless":
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(name)
        return name

    report = engine.map(work, ["a", "endless", "b"], strategy="asyncio", timeout=0.1)

    assert [outcome.status for outcome in report] == ["ok", "timeout", "ok"]
    assert isinstance(report[1].error, TaskTimeoutError)
    assert (report[1].error.abandoned, cleaned) == (False, ["endless"])
    assert 0.1 <= report[1].seconds < PATIENCE


def test_a_task_that_swallows_its_cancel_is_abandoned_and_the_run_goes_on(engine):
    """What will not be cancelled is reported, gives its slot to the next, and is let be."""
    over = asyncio.Event()

    async def work(name):
        while name == "stubborn" and not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                pass
        if name == "last":
            over.set()
        return name

    report = engine.map(
        work, ["stubborn", "next", "last"], strategy="asyncio(max_concurrency=1)", timeout=0.1
    )

    assert [outcome.status for outcome in report] == ["timeout", "ok", "ok"]
    assert report[0].error.abandoned


def test_a_task_that_answers_its_cancel_with_a_value_keeps_it(engine):
    """Whoever catches the cancel at its deadline and returns has returned."""

    async def work(_item):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "as far as I got"

    report = engine.map(work, [0], strategy="asyncio", timeout=0.05)

    assert (report[0].status, report[0].value) == ("ok", "as far as I got")


def cancel_itself():
    raise asyncio.CancelledError("mine")


async def cancel_itself_async():
    await asyncio.sleep(0)
    cancel_itself()


async def cancel_own_task():
    asyncio.current_task().cancel("mine")
    await asyncio.Event().wait()


async def await_cancelled_child():
    child = asyncio.ensure_future(asyncio.Event().wait())
    child.cancel("mine")
    await child


@pytest.mark.parametrize(
    "call", [cancel_itself, cancel_itself_async, cancel_own_task, await_cancelled_child]
)
@pytest.mark.parametrize("form", ["run", "arun"])
def test_a_cancel_of_its_own_making_is_an_error_of_the_task(engine, call, form):
    """A CancelledError that nobody of ours sent has its true type, and costs one task."""
    calls = [partial(abs, -1), call, partial(abs, -2), partial(asyncio.sleep, 0, 3)]
    given = getattr(engine, form)(calls, strategy="asyncio(max_concurrency=1)")
    report = asyncio.run(as_coroutine(given)) if form == "arun" else given

    assert [outcome.status for outcome in report] == ["ok", "error", "ok", "ok"]
    assert type(report[1].error) is asyncio.CancelledError
    assert report[1].error.args in {("mine",), ()}


async def as_coroutine(awaitable):
    return await awaitable


def test_sync_callables_run_in_as_many_threads_as_the_limit_says(engine):
    """Sixty blocking callables that wait for each other all run at once."""
    meet = threading.Barrier(60)
    report = engine.map(
        lambda _: meet.wait(PATIENCE), range(60), strategy="asyncio(max_concurrency=60)"
    )

    assert sorted(report.values) == list(range(60))


def test_sync_callables_leave_the_loop_free(engine):
    """While a sync callable blocks its thread, coroutines of the batch run and end."""
    release = threading.Event()

    async def let_go():
        release.set()

    report = engine.run([partial(release.wait, PATIENCE), let_go], strategy="asyncio")

    assert report.values == [True, None]


def test_a_sync_callable_past_its_deadline_is_abandoned(engine):
    """A thread cannot be stopped: its slot goes to the next, and the outcome says so."""
    release = threading.Event()

    def work(number):
        return release.wait(PATIENCE) if number == 0 else number

    report = engine.map(work, range(3), strategy="asyncio(max_concurrency=1)", timeout=0.1)
    release.set()

    assert [outcome.status for outcome in report] == ["timeout", "ok", "ok"]
    assert report[0].error.abandoned


def test_all_batches_of_a_strategy_share_one_loop():
    """What is bound to a loop lives from batch to batch; ``close`` ends the loop."""
    with AsyncStrategy() as strategy:
        loops = []

        async def note():
            loops.append(asyncio.get_running_loop())

        for _ in range(3):
            strategy.run_tasks([note, note])

    assert len(loops) == 6
    assert len(set(loops)) == 1
    assert loops[0].is_closed()


def test_a_lock_of_the_loop_is_shared_by_all_batches():
    """An asyncio primitive made in one batch works in the next, and guards what it guards."""
    guarded = []

    async def make():
        return asyncio.Lock()

    async def work(lock, number):
        async with lock:
            guarded.append(("in", number))
            await asyncio.sleep(0)
            guarded.append(("out", number))

    with AsyncStrategy() as strategy:
        [lock] = strategy.run_tasks([make])
        strategy.run_tasks([partial(work, lock, number) for number in range(20)])

    assert [number for _, number in guarded[::2]] == [number for _, number in guarded[1::2]]
    assert [what for what, _ in guarded] == ["in", "out"] * 20


@pytest.mark.parametrize("spec", ["asyncio(max_concurrency=7)", "threads(max_workers=3)"])
def test_contexts_are_apart_over_thousands_of_tasks(spec):
    """Each task sees the caller's variables as they were, never what another task set."""

    async def work(number):
        before = WORD.get()
        WORD.set(str(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
        return before, WORD.get()

    token = WORD.set("the caller's")
    with Engine(spec) as engine:
        report = engine.map(work, range(3_000))
    WORD.reset(token)

    assert report.values == [("the caller's", str(number)) for number in range(3_000)]
    assert WORD.get() == "unset"


def test_a_failing_task_takes_no_other_with_it(engine):
    """Of a thousand coroutines at once every third fails, and exactly those are errors."""

    async def work(number):
        await asyncio.sleep(0)
        if number % 3 == 0:
            raise KeyError(number)
        return number

    report = engine.map(work, range(1_000), strategy="asyncio(max_concurrency=1000)")

    assert [o.index for o in report.failures] == list(range(0, 1_000, 3))
    assert [o.error.args for o in report.failures] == [(n,) for n in range(0, 1_000, 3)]


def test_an_awaitable_that_is_no_coroutine_is_awaited(engine):
    """Futures and objects with ``__await__`` are results to wait for like any other."""

    class Later:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "later"

    async def future():
        return asyncio.get_running_loop().create_future()

    assert engine.run([Later, lambda: Later()], strategy="asyncio").values == ["later", "later"]
    report = engine.run([future], strategy="asyncio")
    assert isinstance(report.values[0], asyncio.Future)


async def hold_the_loop(told):
    if told is not None:
        told.wait(PATIENCE)
    await asyncio.sleep(0)
    return "done"


class Teller(logging.Handler):
    """Keep what is said of blocked loops, and let what blocks one go when it is named."""

    def __init__(self, key):
        super().__init__()
        self.key = key
        self.said = []
        self.told = threading.Event()

    def emit(self, record):
        message = record.getMessage()
        if message.startswith(f"loop_blocked: task {self.key!r}"):
            self.said.append(message)
            self.told.set()


def test_a_task_that_holds_up_the_loop_is_named_with_its_line(engine):
    """A warning says which task it is and where, while it still does."""
    teller = Teller("1")
    logging.getLogger("stratagem").addHandler(teller)
    try:
        report = engine.map(hold_the_loop, [None, teller.told, None], strategy="asyncio")
    finally:
        logging.getLogger("stratagem").removeHandler(teller)

    assert report.values == ["done"] * 3
    assert "has held up the event loop for" in teller.said[0]
    assert "told.wait(PATIENCE)" in teller.said[0]
    assert f'File "{__file__}"' in teller.said[0]


def test_what_has_ended_is_handed_out_while_a_task_holds_up_the_loop(engine):
    """An outcome does not wait for the loop to go on."""
    told = threading.Event()

    with engine.stream_map(hold_the_loop, [None, told], strategy="asyncio") as stream:
        first = next(stream)
        told.set()
        rest = list(stream)

    assert [outcome.index for outcome in (first, *rest)] == [0, 1]


def test_a_deadline_is_kept_where_a_task_holds_up_the_loop(engine):
    """It ends as ``timeout`` with its place; what has not begun runs on a fresh loop meanwhile."""
    told = threading.Event()
    try:
        items = [told, *[None] * 9]
        with AsyncStrategy(max_concurrency=2) as strategy:
            report = engine.map(hold_the_loop, items, strategy=strategy, timeout=2.0)
            seconds = report.seconds
            again = engine.map(hold_the_loop, [None] * 3, strategy=strategy)
    finally:
        told.set()

    assert [o.status.value for o in report] == ["timeout"] + ["ok"] * 9
    assert report[0].error.abandoned
    assert "told.wait(PATIENCE)" in report[0].error.stack
    assert seconds < PATIENCE / 2
    assert again.values == ["done"] * 3


def test_other_runs_of_a_strategy_leave_a_loop_that_one_of_them_holds_up(engine):
    """A run whose loop was given up because of another goes on with the fresh one."""
    told, begun = threading.Event(), threading.Event()
    reports = []

    async def wait_a_moment(_):
        begun.set()
        await asyncio.sleep(0.05)

    with AsyncStrategy(max_concurrency=4) as strategy:
        other = threading.Thread(
            target=lambda: reports.append(engine.map(wait_a_moment, range(60), strategy=strategy))
        )
        other.start()
        assert begun.wait(PATIENCE)
        try:
            held = engine.map(hold_the_loop, [told], strategy=strategy, timeout=0.2)
            told.set()  # what it had begun there can end now
            other.join(PATIENCE)
        finally:
            told.set()

    assert held[0].status == "timeout"
    assert [outcome.status for outcome in reports[0]] == ["ok"] * 60
