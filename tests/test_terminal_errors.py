"""Errors that end a run: raised by a task that knows, or recognised by a rule."""

import itertools
import pickle

import attrs
import pytest

from stratagem import Engine, StopRun, authentication_failed, nested
from stratagem.terminal import find_stop

SPECS = [
    "sequential",
    "threads(max_workers=2)",
    "processes(max_workers=2)",
    "asyncio(max_concurrency=2)",
]
RETRYING = [
    pytest.param(f"retry({spec}, wait_initial=0, wait_jitter=0)", marks=pytest.mark.once)
    for spec in SPECS
]


class Spent(StopRun):
    """Be a kind of StopRun that cannot be rebuilt from its message."""

    def __init__(self, what, left):
        super().__init__(f"{what} is used up, {left} left")


class Refused(Exception):
    """Be what a client raises for an HTTP status, in a way that does not pickle."""

    def __init__(self, message, *, response):
        super().__init__(message)
        self.response = response
        self.status_code = response.status_code


@attrs.define
class Response:
    status_code: int
    headers: dict


def spend(number):
    if number == 5:
        raise StopRun("the quota is used up")
    return number


def spend_in_a_group(number):
    if number == 5:
        raise ExceptionGroup("some", [ValueError(), ExceptionGroup("inner", [StopRun("enough")])])
    return number


def be_refused(number):
    if number == 5:
        raise Refused("wrong key", response=Response(401, {}))
    return number


@pytest.mark.parametrize("spec", [*SPECS, *RETRYING])
def test_a_task_may_stop_the_run(engine, spec):
    """StopRun ends a run like max_errors does: a partial report, which says why; no retry."""
    report = engine.map(spend, itertools.count(), strategy=spec)

    (failure,) = [outcome for outcome in report if outcome.status == "error"]
    assert (report.stopped, report.partial) == ("stop_run", True)
    assert report.reason == "task '5' stopped the run: the quota is used up"
    assert report.reason in repr(report)
    assert (failure.index, failure.status, failure.attempts) == (5, "error", 1)
    assert isinstance(failure.error, StopRun)
    assert failure.error.reason == "the quota is used up"
    assert all(outcome.value == outcome.index for outcome in report if outcome.ok)
    assert {outcome.status for outcome in report} <= {"ok", "error", "cancelled"}


def spend_all(number):
    raise Spent("money", number)


def test_a_kind_of_stop_run_that_cannot_be_rebuilt_stops_too(engine):
    """Its name and its reason cross the border of a process as data."""
    report = engine.map(
        spend_all, itertools.count(), strategy="retry(processes(max_workers=1), wait_initial=0)"
    )

    assert report.stopped == "stop_run"
    assert report.reason == "task '0' stopped the run: money is used up, 0 left"
    assert report[0].attempts == 1


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "retry(threads(max_workers=1))"])
def test_stop_run_inside_a_group_counts(engine, spec):
    """A task group wraps what its tasks raise; it is found."""
    report = engine.map(spend_in_a_group, itertools.count(), strategy=spec)

    assert (report.stopped, report.reason) == ("stop_run", "task '5' stopped the run: enough")


def test_stop_run_is_raised_where_failures_are(engine):
    """With on_error="raise" it is the failure that is raised, with the partial report."""
    with pytest.raises(StopRun, match="quota") as caught:
        engine.map(spend, itertools.count(), on_error="raise", strategy="sequential")

    assert caught.value.report.stopped == "stop_run"
    assert len(caught.value.report) == 6


def test_stop_run_in_a_nested_run_stops_the_outer_one(engine):
    """What a child raises is raised in its parent, whose outcome it becomes."""

    def parent(number):
        return nested([lambda: spend(number)])

    report = engine.map(parent, itertools.count(), strategy="threads(max_workers=2)")

    assert (report.stopped, report[5].error.reason) == ("stop_run", "the quota is used up")


@pytest.mark.parametrize("spec", [*SPECS, RETRYING[1], RETRYING[2]])
@pytest.mark.parametrize(
    "stop_on",
    [Refused, (OSError, Refused), authentication_failed, lambda error: "wrong key" in str(error)],
    ids=["type", "types", "authentication_failed", "function"],
)
def test_a_rule_stops_the_run(engine, spec, stop_on):
    """A type, several, or a function choose the errors that end a run, in whatever process."""
    report = engine.map(be_refused, itertools.count(), strategy=spec, stop_on=stop_on)

    assert report.stopped == "stop_on"
    assert report.reason.startswith("task '5' failed with ")
    assert report.reason.endswith("Refused, at which the run is to stop")
    assert [outcome.index for outcome in report if outcome.status == "error"] == [5]


def test_errors_that_no_rule_chooses_stop_nothing(engine):
    """Without a rule, and with one for other errors, a run goes to its end."""
    plain = engine.map(be_refused, range(8), strategy="sequential")
    chosen = engine.map(be_refused, range(8), strategy="sequential", stop_on=KeyError)

    assert [plain.stopped, chosen.stopped] == [None, None]
    assert len(plain) == len(chosen) == 8


def test_a_rule_that_raises_ends_the_run_with_its_error(engine):
    """Nothing further is paid for while the caller's rule is broken."""

    def broken(error):
        raise LookupError("no such rule")

    with pytest.raises(LookupError, match="no such rule") as caught:
        engine.map(be_refused, itertools.count(), strategy="sequential", stop_on=broken)

    assert caught.value.report.stopped == "stop_on"
    assert len(caught.value.report) == 6


@pytest.mark.parametrize("wrong", ["OSError", 401, (), (OSError, "x"), int])
def test_a_rule_that_is_none_is_refused(engine, wrong):
    """What can be no rule is an error before anything runs, which says what can."""
    with pytest.raises(ValueError, match="stop_on must be a type of error, a tuple of them, or a"):
        engine.map(abs, [1], stop_on=wrong)


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        ({"status_code": 401}, True),
        ({"status_code": 403}, True),
        ({"status": 401}, True),
        ({"code": 403}, True),
        ({"response": Response(401, {})}, True),
        ({"status_code": 429}, False),
        ({"code": "401"}, False),
        ({}, False),
    ],
)
def test_the_ready_rule_knows_a_refusal(facts, refused):
    """HTTP status 401 and 403, wherever clients keep it, and nothing else."""
    error = Exception("no")
    for name, value in facts.items():
        setattr(error, name, value)

    assert authentication_failed(error) is refused


def test_the_errors_of_real_clients_are_known():
    """Openai and httpx say it in their own ways."""
    httpx, openai = pytest.importorskip("httpx"), pytest.importorskip("openai")
    response = httpx.Response(401, request=httpx.Request("GET", "http://localhost"))
    errors = [openai.AuthenticationError("no", response=response, body=None)]
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        errors.append(error)

    assert [authentication_failed(error) for error in errors] == [True, True]


def test_stop_run_crosses_borders():
    """It pickles by state, and says its reason."""
    again = pickle.loads(pickle.dumps(Spent("money", 3)))

    assert isinstance(again, Spent)
    assert (again.reason, str(again)) == ("money is used up, 3 left",) * 2
    assert find_stop(again) is again
    assert find_stop(None) is find_stop(ValueError()) is None


def test_an_engine_closes_whatever_stopped_its_runs():
    """A stopped run leaves its strategy fit for the next one."""
    with Engine("threads(max_workers=2)") as engine:
        stopped = engine.map(spend, range(1_000)).stopped
        after = engine.map(abs, [-1, -2]).values

    assert (stopped, after) == ("stop_run", [1, 2])
