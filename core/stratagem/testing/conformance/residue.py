"""What a strategy leaves when it is closed: nothing."""

import itertools
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from stratagem.engine import Engine
from stratagem.testing import mischief, tasks
from stratagem.testing.leaving import leftovers, take_stock
from stratagem.testing.plugin import make_strategy

__all__ = ["Residue"]


class Residue:
    """Hold what is promised of a strategy that is closed."""

    def test_leaves_no_thread_process_or_descriptor_behind(
        self, stratagem_engine: Engine, stratagem_spec: Any, stratagem_foreign: Collection[int]
    ) -> None:
        """After batches, failures, a stream left early and a crash, ``close`` gives all back."""
        _use(stratagem_engine, stratagem_spec)  # opens what Python keeps, such as a fork server
        stock = take_stock(stratagem_foreign)
        _use(stratagem_engine, stratagem_spec)

        assert leftovers(stock) == []

    def test_a_strategy_that_never_ran_leaves_nothing_behind(
        self, stratagem_engine: Engine, stratagem_spec: Any, stratagem_foreign: Collection[int]
    ) -> None:
        """Made and closed, and closed again: nothing was opened, or all is given back."""
        stock = take_stock(stratagem_foreign)
        with make_strategy(stratagem_engine, stratagem_spec) as strategy:
            strategy.close()

        assert leftovers(stock) == []


def _use(engine: Engine, spec: Any) -> None:
    with make_strategy(engine, spec) as strategy:
        engine.map(tasks.square_async, range(10), strategy=strategy)
        engine.map(tasks.fail_at_three, range(10), strategy=strategy)
        endless = (partial(tasks.square, number) for number in itertools.count())
        with engine.stream(endless, strategy=strategy) as stream:
            next(stream)
        if strategy.isolates_crashes:
            calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(5)]
            engine.run([*calls, mischief.kill_own_process], strategy=strategy)
