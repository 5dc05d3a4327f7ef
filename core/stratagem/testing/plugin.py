"""The pytest plugin: fixtures that the conformance suite asks for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stratagem.engine import Engine
    from stratagem.strategy import ExecutionStrategy
    from stratagem.testing.recorder import EventRecorder

__all__ = ["stratagem_engine", "stratagem_recorder", "stratagem_strategy"]


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
        yield engine


@pytest.fixture
def stratagem_strategy(
    stratagem_engine: "Engine", stratagem_spec: Any
) -> "Iterator[ExecutionStrategy]":
    """Make the strategy under test, closed after the test.

    The fixture ``stratagem_spec`` is yours: a spec, or a function that makes the strategy.
    """
    made = (
        stratagem_spec() if callable(stratagem_spec) else stratagem_engine.strategy(stratagem_spec)
    )
    with made as strategy:
        yield strategy
