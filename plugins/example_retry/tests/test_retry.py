"""The strategy ``retry``: what it tries again, how long it waits, and what it tells."""

import asyncio
import itertools
import os
import sys
import threading
import time
from email.utils import formatdate

import cloudpickle
import pytest

from stratagem import Engine, RemoteError, StrategyOptionError, TaskTimeoutError, current_task
from stratagem.testing import Event, EventRecorder
from stratagem_builtin import ProcessPoolStrategy, SequentialStrategy, ThreadPoolStrategy
from stratagem_retry import RetryStrategy
from stratagem_retry.errors import chooser, retry_after

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 20.0
SPECS = ["sequential", "threads(max_workers=2)", "processes(max_workers=2)", "asyncio"]


class StatusError(Exception):
    """Be an error as HTTP clients raise them."""

    def __init__(self, status_code, retry_after=None):
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        if retry_after is not None:
            self.retry_after = retry_after


class Headers:
    def __init__(self, **headers):
        self.headers = headers

    def get(self, name):
        return self.headers.get(name.replace("-", "_"))


class Response:
    def __init__(self, status_code, **headers):
        self.status_code = status_code
        self.headers = Headers(**headers)


class ResponseError(Exception):
    """Be an error that says its status by its response alone, as that of ``httpx`` does."""

    def __init__(self, response):
        super().__init__("see the response")
        self.response = response


class BusyError(Exception):
    pass


class VeryBusyError(BusyError):
    pass


@pytest.fixture
def engine():
    with Engine() as made:
        yield made


def at_once(spec, **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"retry({spec}{given}, wait_initial=0, wait_jitter=0)"


def fail_until(succeeds_at, error=BusyError):
    """Give a task that fails before a given attempt, wherever it runs."""

    def work(_item):
        attempt = current_task().attempt
        if attempt < succeeds_at:
            raise error
        return attempt

    return work


@pytest.mark.parametrize("spec", SPECS)
def test_a_failed_task_is_tried_until_it_succeeds(engine, spec):
    """The outcome is that of the attempt that went well, and says which that was."""
    report = engine.map(fail_until(3), range(4), strategy=at_once(spec))

    assert [(o.status, o.value, o.attempts) for o in report] == [("ok", 3, 3)] * 4


@pytest.mark.parametrize("spec", SPECS)
def test_after_the_last_attempt_the_failure_stands(engine, spec):
    """A task that never succeeds has the error of its last attempt, and the true count."""
    report = engine.map(fail_until(9), range(3), strategy=at_once(spec, attempts=4))

    assert [(o.status, o.attempts) for o in report] == [("error", 4)] * 3


@pytest.mark.parametrize("spec", SPECS)
def test_listeners_hear_of_a_task_once(spec):
    """However many attempts it takes, a task is announced once and ends once."""
    recorder = EventRecorder()
    with Engine(at_once(spec), plugins=[recorder]) as engine:
        engine.map(fail_until(3), range(2))

    for key in ("0", "1"):
        assert recorder.of_task(key) == [Event("before_task", key), Event("after_task", key, "ok")]


def test_attempts_of_one_try_once(engine):
    """``attempts=1`` is no retry at all."""
    report = engine.map(fail_until(2), [0], strategy=at_once("sequential", attempts=1))

    assert (report[0].status, report[0].attempts) == ("error", 1)


@pytest.mark.parametrize(
    ("on", "error", "attempts"),
    [
        (BusyError, BusyError(), 2),
        (BusyError, VeryBusyError(), 2),
        (VeryBusyError, BusyError(), 1),
        ("BusyError", VeryBusyError(), 2),
        (f"{__name__}.BusyError", BusyError(), 2),
        ("elsewhere.BusyError", BusyError(), 1),
        (("TimeoutError", BusyError), BusyError(), 2),
        (["TimeoutError", "KeyError"], TimeoutError(), 2),
        (("TimeoutError", "KeyError"), BusyError(), 1),
        ((), BusyError(), 1),
        (lambda error: "again" in str(error), BusyError("again"), 2),
        (lambda error: "again" in str(error), BusyError("never"), 1),
        (None, BusyError(), 2),
        (None, SystemExit(3), 1),
        ("SystemExit", SystemExit(3), 2),
    ],
)
def test_what_is_tried_again_can_be_chosen(engine, on, error, attempts):
    """By type, by name, by several of them or by a function; bases count, strangers don't."""

    def work(_item):
        raise error

    strategy = RetryStrategy(SequentialStrategy(), 2, on, wait_initial=0, wait_jitter=0)
    with strategy:
        report = engine.map(work, [0], strategy=strategy)

    assert (report[0].error, report[0].attempts) == (error, attempts)


@pytest.mark.parametrize(("on", "attempts"), [("BusyError", 2), (BusyError, 2), ("KeyError", 1)])
def test_what_is_tried_again_is_known_across_a_process_border(engine, on, attempts):
    """An error that comes back as a description is chosen by its names as well."""

    class UnpicklableError(BusyError):
        def __init__(self, one, two):
            super().__init__(one + two)

    def work(_item):
        raise UnpicklableError(1, 2)

    with RetryStrategy(
        ProcessPoolStrategy(max_workers=1), 2, on, wait_initial=0, wait_jitter=0
    ) as strategy:
        report = engine.map(work, [0], strategy=strategy)

    assert (type(report[0].error), report[0].attempts) == (RemoteError, attempts)


@pytest.mark.parametrize("spec", ["sequential", "threads", "asyncio", "processes(max_workers=1)"])
@pytest.mark.parametrize(
    ("status", "attempts"),
    [(400, 1), (401, 1), (404, 1), (408, 2), (409, 2), (429, 2), (500, 2), (503, 2)],
)
@pytest.mark.parametrize("kind", ["attribute", "response"])
def test_statuses_that_no_further_attempt_can_mend_fail_at_once(
    engine, spec, status, attempts, kind
):
    """A refusal is final, a rate limit or a broken server is not, however the error says it."""

    def work(_item):
        if kind == "attribute":
            raise StatusError(status)
        raise ResponseError(Response(status))

    report = engine.map(work, [0], strategy=at_once(spec, attempts=2))

    assert report[0].attempts == attempts


def test_a_task_that_cannot_be_pickled_is_not_tried_again(engine):
    """What can't travel now can't travel later."""
    lock = threading.Lock()
    report = engine.run([lambda: lock], strategy=at_once("processes(max_workers=1)"))

    assert (report[0].status, report[0].attempts) == ("error", 1)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (BusyError(), 0),
        (StatusError(429), 0),
        (StatusError(429, "7"), 7),
        (StatusError(429, 2.5), 2.5),
        (StatusError(429, "-3"), 0),
        (StatusError(429, "soon"), 0),
        (ResponseError(Response(429, retry_after="3")), 3),
        (ResponseError(Response(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")), 0),
        (None, 0),
    ],
)
def test_the_wait_that_a_server_asks_for_is_read(error, seconds):
    """``Retry-After`` in seconds, of the error or of its response; nonsense and the past are 0."""
    assert retry_after(error) == seconds


def test_the_wait_that_a_server_asks_for_may_be_a_date():
    """An HTTP date is the seconds until then."""
    asked = retry_after(StatusError(503, formatdate(time.time() + 30, usegmt=True)))

    assert 28 < asked <= 30


@pytest.mark.parametrize("asked", ["0.4", "date"])
@pytest.mark.parametrize("spec", ["threads", "processes(max_workers=1)", "asyncio"])
def test_retry_after_is_honoured(engine, spec, asked):
    """The next attempt comes no sooner than the server asked, across processes too."""

    def work(_item):
        if current_task().attempt == 1:
            wait = formatdate(time.time() + 2, usegmt=True) if asked == "date" else asked
            raise ResponseError(Response(429, retry_after=wait))
        return time.time()

    began = time.time()
    report = engine.map(work, [0], strategy=at_once(spec))

    assert report[0].attempts == 2
    assert report.values[0] - began >= (0.9 if asked == "date" else 0.4)


def test_a_task_that_waits_holds_no_slot(engine):
    """With one worker, another task runs while the first one waits for its next attempt."""
    order = []

    def work(name):
        order.append((name, current_task().attempt))
        if name == "busy" and current_task().attempt == 1:
            raise StatusError(429, 1.0)
        return name

    report = engine.map(
        work, ["busy", "other", "third"], strategy=at_once("threads(max_workers=1)")
    )

    assert order == [("busy", 1), ("other", 1), ("third", 1), ("busy", 2)]
    assert report.values == ["busy", "other", "third"]


def test_each_wait_is_longer_than_the_one_before(engine):
    """Waits double from ``wait_initial`` on, up to ``wait_max``."""
    moments = []

    def work(_item):
        moments.append(time.monotonic())
        raise BusyError

    engine.map(
        work,
        [0],
        strategy="retry(sequential, attempts=5, wait_initial=0.1, wait_max=0.2, wait_jitter=0)",
    )

    waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert [wait >= least for wait, least in zip(waits, [0.1, 0.2, 0.2, 0.2], strict=True)] == (
        [True] * 4
    )


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
def test_a_run_that_stops_during_a_wait_gives_the_last_error_known(spec):
    """The task did fail: that is its outcome, with the attempts made, and all is settled."""
    recorder = EventRecorder()

    def work(name):
        if name == "busy":
            raise StatusError(429, 100)
        return name

    with Engine(at_once(spec), plugins=[recorder]) as engine:
        with engine.stream_map(work, ["busy", "other"]) as stream:
            first = next(stream)
        report = stream.report

    assert first.value == "other"
    assert [(o.index, o.status, o.attempts) for o in report] == [(0, "error", 1), (1, "ok", 1)]
    assert isinstance(report[0].error, StatusError)
    assert recorder.of_task("0") == [
        Event("before_task", "0"),
        Event("task_error", "0", "error"),
        Event("after_task", "0", "error"),
    ]


@pytest.mark.parametrize("spec", ["threads(max_workers=2)", "processes(max_workers=1)", "asyncio"])
def test_a_timeout_is_one_of_each_attempt(engine, spec):
    """A first attempt that hangs ends at its deadline, and the second has a whole one again."""

    async def work(_item):
        if current_task().attempt == 1:
            await asyncio.Event().wait()
        return current_task().attempt

    report = engine.map(work, range(2), strategy=at_once(spec), timeout=0.5)

    assert [(o.status, o.value, o.attempts) for o in report] == [("ok", 2, 2)] * 2


def test_timeouts_that_never_end_well_stand(engine):
    """After the last attempt the timeout is the outcome."""

    async def work(_item):
        await asyncio.Event().wait()

    report = engine.map(work, [0], strategy=at_once("asyncio", attempts=2), timeout=0.1)

    assert (report[0].status, report[0].attempts) == ("timeout", 2)
    assert isinstance(report[0].error, TaskTimeoutError)


def test_a_task_whose_worker_died_is_tried_again(engine):
    """A crash in the first attempt costs that attempt."""

    def work(_item):
        if current_task().attempt == 1:
            os._exit(1)
        return current_task().attempt

    report = engine.map(work, range(3), strategy=at_once("processes(max_workers=2)"))

    assert [(o.status, o.value, o.attempts) for o in report] == [("ok", 2, 2)] * 3


def test_only_what_fails_is_tried_again(engine):
    """In a long batch each task has as many attempts as it needs, and none more."""
    made = []

    def work(number):
        made.append(number)
        if current_task().attempt <= number % 3:
            raise BusyError
        return number

    report = engine.map(work, range(300), strategy=at_once("threads(max_workers=4)"))

    assert report.values == list(range(300))
    assert [outcome.attempts for outcome in report] == [1 + n % 3 for n in range(300)]
    assert sorted(made) == sorted(n for n in range(300) for _ in range(1 + n % 3))


def test_max_errors_counts_tasks_not_attempts(engine):
    """Attempts that fail stop no run as long as their task may still succeed."""
    report = engine.map(
        fail_until(3), range(10), strategy=at_once("threads"), max_errors=1, on_error="collect"
    )

    assert report.ok
    assert {outcome.attempts for outcome in report} == {3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("attempts=0", "attempts must be a whole number of at least 1, not 0"),
        ("attempts=True", "attempts must be"),
        ("attempts=2.5", "attempts must be"),
        ("wait_initial=-1", "must be .* seconds"),
        ("wait_max=1e999", "must be .* seconds"),
        ("wait_max=-1", "must be .* seconds"),
        ("wait_jitter=-0.1", "must be .* seconds"),
        ("wait_initial='soon'", "."),
        ("on=3", "on must be types or names of errors"),
        ("on=[3]", "on must be types or names of errors"),
        ("retries=3", "unknown option 'retries'; its options are: inner, attempts, on, wait"),
    ],
)
def test_options_that_make_no_sense_are_refused(engine, options, message):
    """A wrong option is an error that names it, when the strategy is made."""
    with pytest.raises(StrategyOptionError, match=message):
        engine.strategy(f"retry(sequential, {options})")


def test_retry_without_a_strategy_says_what_is_missing(engine):
    """``retry`` alone names the argument it needs."""
    with pytest.raises(StrategyOptionError, match="inner"):
        engine.strategy("retry")


def test_a_wrapper_answers_for_its_inner_strategy():
    """Capabilities are those of what runs the attempts; closing closes it."""
    with (
        RetryStrategy(ThreadPoolStrategy(max_workers=1)) as threads,
        RetryStrategy(RetryStrategy(ProcessPoolStrategy(max_workers=1))) as processes,
    ):
        assert (threads.shares_memory, threads.can_kill, threads.enforces_timeouts) == (
            True,
            False,
            True,
        )
        assert (processes.isolates_crashes, processes.can_kill, processes.shares_memory) == (
            True,
            True,
            False,
        )


def test_a_choice_is_refused_for_no_error():
    """A function that chooses is never asked about an outcome without an error."""
    asked = []

    assert chooser(lambda error: asked.append(error) or True)(None) is False
    assert asked == []


def test_a_task_that_costs_every_worker_is_given_up_after_two(engine):
    """The second loss is its last attempt, and the error says why; its neighbours are well."""
    spec = "retry(processes(max_workers=2), attempts=9, wait_initial=0.01, wait_jitter=0)"
    calls = [lambda number=number: number * 2 for number in range(19)]
    report = engine.run([*calls, lambda: os._exit(7)], strategy=spec)

    assert [outcome.value for outcome in report][:19] == [number * 2 for number in range(19)]
    assert (report[19].status, report[19].attempts) == ("lost", 2)
    assert report[19].error.exitcode == 7
    assert "it has cost two workers" in report[19].error.__notes__[-1]
