"""Tasks within tasks, by the strategy that runs them."""

from collections.abc import Callable
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import tasks

__all__ = ["Nesting"]


class Nesting:
    """Hold what is promised of nested runs."""

    @pytest.mark.parametrize("function", [tasks.count_leaves, tasks.count_leaves_async])
    def test_runs_nested_in_itself(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[int], Any],
    ) -> None:
        """Tasks run children by the strategy that runs them, to a depth beyond its workers."""
        report = stratagem_engine.map(function, [3, 4, 3], strategy=stratagem_strategy)

        assert report.values == [8, 16, 8]

    def test_a_failed_child_raises_in_its_parent(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A parent gets the exception of its child, as it was raised."""
        report = stratagem_engine.run([tasks.child_fails] * 2, strategy=stratagem_strategy)

        assert report.values == ["KeyError", "KeyError"]
