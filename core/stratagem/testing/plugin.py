"""The pytest plugin: fixtures that the conformance suite asks for."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stratagem.engine import Engine
    from stratagem.strategy import ExecutionStrategy
    from stratagem.testing.recorder import EventRecorder

__all__ = [
    "make_strategy",
    "stratagem_engine",
    "stratagem_foreign",
    "stratagem_gate",
    "stratagem_recorder",
    "stratagem_strategy",
]

pytest.register_assert_rewrite("stratagem.testing.conformance")


@pytest.fixture
def stratagem_recorder() -> "EventRecorder":
    """Record what happens to the tasks of ``stratagem_engine``."""
    from stratagem.testing.recorder import EventRecorder  # noqa: PLC0415 - most tests need none

    return EventRecorder()


@pytest.fixture
def stratagem_engine(stratagem_recorder: "EventRecorder") -> "Iterator[Engine]":
    """Make an engine with a recorder, closed after the test."""
    from stratagem.engine import Engine  # noqa: PLC0415 - most tests need none

    with Engine(plugins=[stratagem_recorder]) as engine:
        _import_strategies(engine)
        yield engine


def _import_strategies(engine: "Engine") -> None:
    """Import every strategy here: pytest rewrites what it imports, and not well in two threads.

    CPython 3.11 may raise "AST constructor recursion depth mismatch" there (python/cpython#106905).
    """
    for offer in engine.plugins.offers():
        offer.info.can("shares_memory")


@pytest.fixture
def stratagem_strategy(
    stratagem_engine: "Engine", stratagem_spec: Any
) -> "Iterator[ExecutionStrategy]":
    """Make the strategy under test, closed after the test.

    The fixture ``stratagem_spec`` is yours: a spec, or a function that makes the strategy.
    """
    with make_strategy(stratagem_engine, stratagem_spec) as strategy:
        yield strategy


@pytest.fixture
def stratagem_foreign() -> Collection[int]:
    """Give the ids of processes that run beside the strategy and are none of its own.

    There are none by default; tests of a strategy on a cluster that they have started name that.
    """
    return ()


@pytest.fixture
def stratagem_gate(tmp_path: Path) -> Iterator[Path]:
    """Name a file that is not there until the test is over; tasks that never return wait for it."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def make_strategy(engine: "Engine", spec: Any) -> "ExecutionStrategy":
    """Make the strategy that ``stratagem_spec`` stands for."""
    made: ExecutionStrategy = spec() if callable(spec) else engine.strategy(spec)
    return made
