"""What workers do before their first task, and the state that their tasks find."""

import asyncio
import os
import sys
import threading

import cloudpickle
import pytest

from stratagem import Engine, TransportError, WorkerStartError
from stratagem_builtin import ProcessPoolStrategy, worker_state

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

METHODS = ["fork", "forkserver", "spawn"]


def append(path, text):
    """Add a line to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def read(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("method", METHODS)
def test_the_initializer_runs_once_in_each_worker_and_its_value_is_their_state(tmp_path, method):
    """Also in a worker that replaces one that died; nineteen of twenty tasks are well."""
    ledger = tmp_path / "ledger"

    def load():
        append(ledger, os.getpid())
        return {"model": "large", "pid": os.getpid()}

    def work(number):
        if number == 7:
            os._exit(1)
        return worker_state()["pid"] == os.getpid(), os.getpid()

    strategy = ProcessPoolStrategy(max_workers=2, start_method=method, initializer=load)
    with Engine() as engine, strategy:
        report = engine.map(work, range(20), strategy=strategy)

    assert [outcome.index for outcome in report.failures] == [7]
    values = [outcome.value for outcome in report if outcome.ok]
    assert all(own for own, _ in values)
    assert len(read(ledger)) == len(set(read(ledger)))
    assert {str(pid) for _, pid in values} <= set(read(ledger))


def test_a_spec_names_the_initializer_by_its_place(tmp_path, monkeypatch):
    """``processes(initializer="app.models:load")`` works from the command line, say."""
    package = tmp_path / "some_app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text("class Models:\n    def load():\n        return 'loaded'\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = "processes(max_workers=1, initializer='some_app.models:Models.load')"
    with Engine(spec) as engine:
        values = engine.map(lambda _: worker_state(), range(3)).values

    assert values == ["loaded"] * 3


def test_an_async_initializer_is_awaited_on_the_loop_that_tasks_run_on():
    """A client that it makes is bound to the loop of the coroutines that use it."""

    async def connect():
        return asyncio.get_running_loop()

    async def work(_):
        return worker_state() is asyncio.get_running_loop()

    with ProcessPoolStrategy(max_workers=1, initializer=connect) as strategy, Engine() as engine:
        assert engine.map(work, range(3), strategy=strategy).values == [True] * 3


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_raises_ends_the_run_after_three_tries(capfd, tmp_path, method):
    """The error names it and what it raised, and holds its traceback; the strategy can go on."""
    ledger = tmp_path / "ledger"

    def load():
        append(ledger, os.getpid())
        if len(read(ledger)) <= 3:
            raise LookupError("no such model")
        return "loaded"

    strategy = ProcessPoolStrategy(max_workers=1, start_method=method, initializer=load)
    with Engine() as engine, strategy:
        with pytest.raises(WorkerStartError) as caught:
            engine.map(abs, range(20), strategy=strategy)
        tries = len(read(ledger))
        values = engine.map(lambda _: worker_state(), range(3), strategy=strategy).values

    error = caught.value
    assert tries == 3
    assert values == ["loaded"] * 3
    assert "load raised LookupError: no such model" in error.problem
    assert error.problem in str(error)
    assert "in load" in error.remote_traceback
    assert error.exitcode == 1
    assert "LookupError: no such model" in error.stderr
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("no.such:load", "initializer no.such:load raised ModuleNotFoundError: No module named"),
        ("os:sep", "initializer os:sep raised TypeError: os:sep is of type str, which is not"),
        ("sys:exit", "initializer sys:exit raised SystemExit"),
    ],
)
def test_a_place_where_no_initializer_is_ends_the_run(place, problem):
    """It is looked up in the worker, and the error says what is there."""
    with (
        Engine(f"processes(max_workers=1, initializer='{place}')") as engine,
        pytest.raises(WorkerStartError) as caught,
    ):
        engine.map(abs, range(3))

    assert caught.value.problem.startswith(problem)


@pytest.mark.parametrize("text", ["load", "app.models", "app:", ":load", "app/models.py:load", ""])
def test_text_that_names_no_place_is_refused_at_once(text):
    """The error shows the right form."""
    with pytest.raises(ValueError, match="must be written package.module:function"):
        ProcessPoolStrategy(initializer=text)


def test_what_cannot_be_called_or_sent_is_refused_at_once():
    """Neither a number nor a function over a lock can be an initializer."""
    lock = threading.Lock()
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ProcessPoolStrategy(initializer=3)
    with pytest.raises(TransportError, match=r"_thread\.lock"):
        ProcessPoolStrategy(initializer=lambda: lock)


def test_there_is_no_state_outside_of_such_a_worker():
    """The error says where it would be, in the parent and in a worker without initializer."""
    with pytest.raises(RuntimeError, match=r"processes\(initializer=\.\.\.\)"):
        worker_state()
    with Engine("processes(max_workers=1)") as engine:
        report = engine.map(lambda _: worker_state(), [0])

    assert isinstance(report[0].error, RuntimeError)


def test_a_state_of_none_is_a_state():
    """An initializer need not return anything."""
    with ProcessPoolStrategy(max_workers=1, initializer=bool) as strategy, Engine() as engine:
        assert engine.map(lambda _: worker_state(), [0], strategy=strategy).values == [False]
