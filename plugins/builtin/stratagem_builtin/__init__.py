"""The strategies that ship with stratagem, offered like those of any other plugin."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stratagem import StrategyInfo, hookimpl

if TYPE_CHECKING:
    from stratagem_builtin.coroutines import AsyncStrategy
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

_HOMES = {
    "AsyncStrategy": "coroutines",
    "ProcessPoolStrategy": "processes",
    "SequentialStrategy": "sequential",
    "ThreadPoolStrategy": "threads",
    "worker_state": "initializer",
}


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer them by their places: a run imports the strategy that it uses, and no other."""
    return [
        StrategyInfo(
            "sequential",
            "stratagem_builtin.sequential:SequentialStrategy",
            "one after another, deterministic",
        ),
        StrategyInfo(
            "threads", "stratagem_builtin.threads:ThreadPoolStrategy", "in threads, for I/O"
        ),
        StrategyInfo(
            "processes",
            "stratagem_builtin.processes:ProcessPoolStrategy",
            "in processes, for CPU and for safety",
            imports_code=frozenset({"initializer"}),
        ),
        StrategyInfo(
            "asyncio",
            "stratagem_builtin.coroutines:AsyncStrategy",
            "on an event loop, for async I/O",
        ),
        StrategyInfo(
            "executor",
            "stratagem_builtin.executors:executor",
            "on any concurrent.futures.Executor, named package:Class",
            imports_code=True,
        ),
    ]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
