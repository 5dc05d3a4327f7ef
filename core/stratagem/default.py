"""The engine behind the module-level functions, made when first used."""

import atexit
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack

from stratagem.engine import Callables, Engine, Items, Options
from stratagem.report import Report
from stratagem.selection import SpecLike
from stratagem.strategy import ExecutionStrategy
from stratagem.stream import Stream

if TYPE_CHECKING:
    from stratagem.async_stream import AsyncStream

__all__ = [
    "aexpand",
    "amap",
    "arun",
    "astream",
    "default_engine",
    "expand",
    "map",
    "run",
    "strategy",
    "stream",
    "stream_map",
]


@functools.cache
def default_engine() -> Engine:
    """Give the engine that the module-level functions use; it is closed when the program ends."""
    engine = Engine()
    atexit.register(engine.close)
    return engine


def run(callables: Callables, **options: Unpack[Options]) -> Report:
    """Run callables of no arguments and report on all, as ``Engine.run`` does."""
    return default_engine().run(callables, **options)


def map(  # noqa: A001 - the word for it
    function: Callable[[Any], Any], items: Items, **options: Unpack[Options]
) -> Report:
    """Call ``function`` with each item and report on all, as ``Engine.map`` does."""
    return default_engine().map(function, items, **options)


def stream(callables: Callables, **options: Unpack[Options]) -> Stream:
    """Run callables and give their outcomes as they end, as ``Engine.stream`` does."""
    return default_engine().stream(callables, **options)


def stream_map(function: Callable[[Any], Any], items: Items, **options: Unpack[Options]) -> Stream:
    """Call ``function`` with each item and give outcomes as they end, as ``Engine.stream_map``."""
    return default_engine().stream_map(function, items, **options)


def expand(
    step: Callable[[Any], Any],
    items: Items,
    *,
    max_depth: int | None = None,
    max_tasks: int | None = None,
    duplicates: Literal["skip", "raise"] = "skip",
    **options: Unpack[Options],
) -> Stream:
    """Call ``step`` with each item and with all that those lead to, as ``Engine.expand`` does."""
    return default_engine().expand(
        step,
        items,
        max_depth=max_depth,
        max_tasks=max_tasks,
        duplicates=duplicates,
        **options,
    )


def aexpand(
    step: Callable[[Any], Any],
    items: Items,
    *,
    max_depth: int | None = None,
    max_tasks: int | None = None,
    duplicates: Literal["skip", "raise"] = "skip",
    **options: Unpack[Options],
) -> "AsyncStream":
    """Expand while the loop goes on, as ``Engine.aexpand`` does."""
    return default_engine().aexpand(
        step,
        items,
        max_depth=max_depth,
        max_tasks=max_tasks,
        duplicates=duplicates,
        **options,
    )


async def arun(callables: Callables, **options: Unpack[Options]) -> Report:
    """Run callables while the loop goes on, as ``Engine.arun`` does."""
    return await default_engine().arun(callables, **options)


async def amap(function: Callable[[Any], Any], items: Items, **options: Unpack[Options]) -> Report:
    """Call ``function`` with each item while the loop goes on, as ``Engine.amap`` does."""
    return await default_engine().amap(function, items, **options)


def astream(callables: Callables, **options: Unpack[Options]) -> "AsyncStream":
    """Give outcomes as they end while the loop goes on, as ``Engine.astream`` does."""
    return default_engine().astream(callables, **options)


def strategy(spec: SpecLike | None = None) -> ExecutionStrategy:
    """Make a strategy of a spec, to be closed by the caller, as ``Engine.strategy`` does."""
    return default_engine().strategy(spec)
