"""The strategies that ship with stratagem, offered like those of any other plugin."""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_builtin.coroutines import AsyncStrategy
from stratagem_builtin.executors import executor
from stratagem_builtin.initializer import worker_state
from stratagem_builtin.processes import ProcessPoolStrategy
from stratagem_builtin.sequential import SequentialStrategy
from stratagem_builtin.threads import ThreadPoolStrategy

__all__ = [
    "AsyncStrategy",
    "ProcessPoolStrategy",
    "SequentialStrategy",
    "ThreadPoolStrategy",
    "worker_state",
]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer them."""
    return [
        StrategyInfo("sequential", SequentialStrategy, "one after another, deterministic"),
        StrategyInfo("threads", ThreadPoolStrategy, "in threads, for I/O"),
        StrategyInfo(
            "processes",
            ProcessPoolStrategy,
            "in processes, for CPU and for safety",
            imports_code=frozenset({"initializer"}),
        ),
        StrategyInfo("asyncio", AsyncStrategy, "on an event loop, for async I/O"),
        StrategyInfo(
            "executor",
            executor,
            "on any concurrent.futures.Executor, named package:Class",
            imports_code=True,
        ),
    ]
