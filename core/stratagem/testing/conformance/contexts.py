"""Context variables: copied from where the run was started, and none leaks into the next task."""

from collections.abc import Callable
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import tasks

__all__ = ["Contexts"]


class Contexts:
    """Hold what is promised of context variables."""

    def test_runs_tasks_in_the_callers_context(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A task sees the context variables of the caller where memory is shared."""
        if not stratagem_strategy.shares_memory:
            pytest.skip("a context does not cross a process border")
        token = tasks.VARIABLE.set("the caller's")
        try:
            report = stratagem_engine.map(
                tasks.set_variable, ["a", "b", "c"] * 5, strategy=stratagem_strategy
            )
        finally:
            tasks.VARIABLE.reset(token)

        assert [before for before, _ in report.values] == ["the caller's"] * 15

    @pytest.mark.parametrize("function", [tasks.set_variable, tasks.set_variable_async])
    def test_no_context_variable_leaks_into_the_next_task(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[str], Any],
    ) -> None:
        """What a task sets in its context is gone with it."""
        report = stratagem_engine.map(function, map(str, range(40)), strategy=stratagem_strategy)

        assert report.values == [("unset", str(i)) for i in range(40)]
        assert tasks.VARIABLE.get() == "unset"

    @pytest.mark.parametrize("function", [tasks.own_key, tasks.own_key_async])
    def test_a_task_knows_its_run_and_key(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[object], Any],
    ) -> None:
        """``current_task`` gives run id and key, wherever the task runs."""
        report = stratagem_engine.map(
            function, ["a", "b", "c"], key=str, strategy=stratagem_strategy
        )

        assert report.values == [(report.run_id, key) for key in "abc"]
