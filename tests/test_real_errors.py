"""Exceptions of the libraries that agents are made of, raised in tasks of every strategy."""

import sys

import cloudpickle
import pytest

from stratagem import Engine

httpx = pytest.importorskip("httpx")
openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test


def response(status, **headers):
    return httpx.Response(
        status, headers=headers, request=httpx.Request("POST", "http://localhost/v1/chat")
    )


def make_rate_limit_error():
    body = {"message": "slow down", "code": "rate_limited"}
    headers = {"retry-after": "7"}
    return openai.RateLimitError("slow down", response=response(429, **headers), body=body)


def make_authentication_error():
    return openai.AuthenticationError("who are you", response=response(401), body=None)


def make_http_status_error():
    try:
        response(503).raise_for_status()
    except httpx.HTTPStatusError as error:
        return error


def make_validation_error():
    try:
        pydantic.TypeAdapter(int).validate_python("seven")
    except pydantic.ValidationError as error:
        return error


def make_timeout_error():
    return openai.APITimeoutError(httpx.Request("POST", "http://localhost/v1/chat"))


MADE = {
    "RateLimitError": make_rate_limit_error,
    "AuthenticationError": make_authentication_error,
    "HTTPStatusError": make_http_status_error,
    "ValidationError": make_validation_error,
    "APITimeoutError": make_timeout_error,
}
STATUS_CODES = {"RateLimitError": 429, "AuthenticationError": 401, "HTTPStatusError": 503}


@pytest.fixture(scope="module")
def processes():
    with Engine("processes(max_workers=2)") as engine:
        yield engine


@pytest.mark.parametrize(
    "strategy", ["sequential", "threads", "asyncio", "retry(threads, attempts=1)"]
)
@pytest.mark.parametrize("name", MADE)
def test_where_memory_is_shared_it_is_the_very_object(engine, strategy, name):
    """The error of an outcome is the object that was raised, and no other task is touched."""
    error = MADE[name]()

    def work(item):
        if item == name:
            raise error
        return item

    report = engine.map(work, ["before", name, "after"], strategy=strategy)

    assert report[1].error is error
    assert [outcome.value for outcome in report] == ["before", None, "after"]


@pytest.mark.parametrize("name", MADE)
def test_across_a_process_border_it_comes_back_named(processes, name):
    """The error has its type's name, its message and its status code, and costs its own task."""
    original = MADE[name]()

    def work(item):
        if item == name:
            raise MADE[name]()
        return item

    report = processes.map(work, ["before", name, "after"])

    error = report[1].error
    named = getattr(error, "type_name", f"{type(error).__module__}.{type(error).__qualname__}")
    assert [outcome.status for outcome in report] == ["ok", "error", "ok"]
    assert named == f"{type(original).__module__}.{type(original).__qualname__}"
    assert str(original) in str(error)
    assert getattr(error, "status_code", None) == STATUS_CODES.get(name)


@pytest.mark.parametrize("name", MADE)
def test_across_a_process_border_it_says_where_it_was_raised(processes, name):
    """The traceback of the worker comes along, down to the line that raised."""

    def work(_item):
        raise MADE[name]()

    report = processes.map(work, [name])

    assert "raise MADE[name]()" in report[0].error.remote_traceback


def test_across_a_process_border_a_rate_limit_says_how_long_to_wait(processes):
    """What the server asked for in ``Retry-After`` is an attribute of the error."""

    def work(_item):
        raise make_rate_limit_error()

    report = processes.map(work, [0])

    assert report[0].error.retry_after == "7"


@pytest.mark.parametrize("strategy", ["threads", "processes(max_workers=2)"])
def test_run_tasks_raises_what_the_task_raised(engine, strategy):
    """The seed's own form raises the error, named as it was."""

    def work():
        raise make_authentication_error()

    with engine.strategy(strategy) as made, pytest.raises(Exception, match="who are you") as caught:
        made.run_tasks([work])

    assert caught.value.status_code == 401
