"""One bad task among twenty: nineteen good outcomes, one that tells the truth, and nothing left."""

import os
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import attrs
import cloudpickle
import pytest

from stratagem import Engine
from stratagem.testing import failures, leftovers, mischief, take_stock, tasks
from stratagem.testing.conformance.answers import answers, statuses, type_name
from stratagem.testing.conformance.crashes import CRASHES

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test


WORKERS = "processes(max_workers=2, start_method='{}', max_result_bytes=1_000_000)"
APART = [WORKERS.format(method) for method in ("fork", "forkserver", "spawn")]
TOGETHER = ["sequential", "threads(max_workers=2)", "asyncio(max_concurrency=2)"]
MARKS = {WORKERS.format(method): pytest.mark.once for method in ("fork", "spawn")}
SPECS = [pytest.param(spec, marks=MARKS.get(spec, ())) for spec in TOGETHER + APART]
SOON = 0.2


@attrs.frozen
class Fault:
    """Hold a task that goes wrong, and what is true of it afterwards.

    Attributes:
        name: what it does.
        call: the task.
        together: what is told where tasks share the memory of the caller; None if it ends that.
        apart: what is told where they do not.
    """

    name: str
    call: Callable[[], Any]
    together: tuple[Any, ...] | None
    apart: tuple[Any, ...]


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}, {second}")


class OwnExit(BaseException):
    """Be no Exception, and none that Python knows."""


class Explosive:
    """Do something when it is unpickled."""

    def __init__(self, effect, *arguments):
        self.effect = effect
        self.arguments = arguments

    def __reduce__(self):
        return (self.effect, self.arguments)


def refuse(reason):
    raise OddError(reason, 2)


def refuse_in(pid):
    """Raise in one process, and be a number in any other."""
    if os.getpid() == pid:
        raise OddError("not here", pid)
    return 7


def speak_long():
    raise OddError("x" * 2_000_000, 2)


def raise_itself_as_cause():
    error = ValueError("round and round")
    error.__cause__ = error
    raise error


def raise_group_of_exits():
    raise BaseExceptionGroup("several", [SystemExit(3), KeyboardInterrupt()])


def raise_own_exit():
    raise OwnExit


def raise_half_of_a_loop():
    raise StopAsyncIteration


def nest_deeply():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


def come_back_explosive(pid):
    return Explosive(refuse_in, pid)


OK = ("ok",)


def stage(name):
    return ("error", "TransportError", name)


FAULTS = [
    *(
        Fault(crash.__name__, crash, None, ("lost", "TaskLostError", exitcode))
        for crash, exitcode in CRASHES
    ),
    Fault(
        "unpickling its argument ends the interpreter",
        partial(type, Explosive(os._exit, 9)),
        OK,
        ("lost", "TaskLostError", 9),
    ),
    Fault(
        "unpickling its argument raises",
        partial(type, Explosive(refuse, "no entry")),
        OK,
        stage("decode_task"),
    ),
    Fault("it cannot be pickled", partial(id, threading.Lock()), OK, stage("encode_task")),
    Fault("its result cannot be pickled", tasks.return_lock, OK, stage("encode_result")),
    Fault(
        "unpickling its result raises",
        partial(come_back_explosive, os.getpid()),
        OK,
        stage("decode_result"),
    ),
    Fault("its result is nested too deeply", nest_deeply, OK, stage("encode_result")),
    Fault("its result is too large", partial(bytes, 1_000_001), OK, stage("encode_result")),
    *(
        Fault(call.__name__, call, ("error", name), ("error", name))
        for call, name in [
            (failures.raise_two_arguments, "TwoArgumentsError"),
            (failures.raise_silent, "SilentError"),
            (failures.raise_chained, "ValueError"),
            (failures.raise_group, "ExceptionGroup"),
            (failures.exit_interpreter, "SystemExit"),
            (failures.exit_interpreter_async, "SystemExit"),
            (failures.raise_keyboard_interrupt, "KeyboardInterrupt"),
            (failures.raise_keyboard_interrupt_async, "KeyboardInterrupt"),
            (failures.raise_stop_iteration, "StopIteration"),
            (failures.raise_stop_iteration_async, "RuntimeError"),
            (failures.raise_generator_exit, "GeneratorExit"),
            (failures.raise_generator_exit_async, "GeneratorExit"),
            (failures.raise_cancelled, "CancelledError"),
            (failures.raise_cancelled_async, "CancelledError"),
            (failures.recurse_for_ever, "RecursionError"),
            (speak_long, "OddError"),
            (raise_itself_as_cause, "ValueError"),
            (raise_group_of_exits, "BaseExceptionGroup"),
            (raise_own_exit, "OwnExit"),
            (raise_half_of_a_loop, "StopAsyncIteration"),
        ]
    ),
]


def told(outcome):
    """Give what an outcome tells: its status, the type of its error, and how or where it came."""
    if outcome.ok:
        return OK
    detail = [
        getattr(outcome.error, name)
        for name in ("exitcode", "stage")
        if getattr(outcome.error, name, None) is not None
    ]
    return (outcome.status.value, type_name(outcome), *detail)


def truth(fault, spec):
    return fault.apart if spec in APART else fault.together


CASES = [
    pytest.param(spec, fault, id=f"{fault.name}-{spec}", marks=MARKS.get(spec, ()))
    for spec in TOGETHER + APART
    for fault in FAULTS
    if truth(fault, spec) is not None
]


@pytest.fixture(scope="module")
def shared():
    """Make an engine that keeps its strategies warm from fault to fault."""
    with Engine() as engine:
        yield engine


@pytest.mark.parametrize(("spec", "fault"), CASES)
def test_one_bad_task_among_twenty_costs_only_itself(shared, spec, fault):
    """Its outcome tells the truth, nineteen others are unharmed, and so is the next batch."""
    calls = [partial(tasks.square, number) for number in range(20)]
    calls[7] = fault.call
    report = shared.run(calls, strategy=spec)
    after = shared.map(tasks.square, range(5), strategy=spec)

    assert told(report[7]) == truth(fault, spec)
    assert [o.value for o in report if o.index != 7] == [i * i for i in range(20) if i != 7]
    assert not report.partial
    assert after.values == [i * i for i in range(5)]


@cache
def open_what_python_keeps(spec):
    """Use a strategy once: the first use starts a fork server or a resource tracker for good."""
    with Engine(spec) as engine:
        engine.map(tasks.square, range(1))


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_is_left_of_a_strategy_that_met_every_fault(spec):
    """All of them in one batch, each between good tasks: every outcome is true, then all is gone."""
    met = [fault for fault in FAULTS if truth(fault, spec) is not None]
    calls = [call for fault in met for call in (partial(tasks.square, 3), fault.call)]
    open_what_python_keeps(spec)
    stock = take_stock()
    with Engine(spec) as engine:
        report = engine.run(calls)
    values = [outcome.value for outcome in report[::2]]
    found = [told(outcome) for outcome in report[1::2]]

    assert values == [9] * len(met)
    assert found == [truth(fault, spec) for fault in met]
    assert leftovers(stock) == []


@pytest.mark.parametrize("endless", [mischief.wait, mischief.wait_async, mischief.swallow_cancel])
@pytest.mark.parametrize("spec", SPECS[1:])
def test_one_task_among_twenty_that_never_returns_costs_only_itself(
    spec, endless, stratagem_gate, tmp_path
):
    """It is ``timeout``, the others succeed, and when it is let go nothing is left of it."""
    calls = [partial(tasks.square, number) for number in range(20)]
    calls[7] = partial(endless, tmp_path / "begun", stratagem_gate)
    open_what_python_keeps(spec)
    stock = take_stock()
    with Engine() as engine, engine.strategy(spec) as strategy:
        outcomes = answers(strategy, calls, timeouts={7: SOON})
        after = engine.map(tasks.square, range(5), strategy=strategy)
        stratagem_gate.touch()

    assert statuses(outcomes) == ["ok"] * 7 + ["timeout"] + ["ok"] * 12
    assert after.values == [i * i for i in range(5)]
    assert leftovers(stock) == []
