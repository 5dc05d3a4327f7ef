"""Tasks within tasks: ten parents, each with children, all under one limit."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.flight import Flight
from benchmarks.measure import seconds_of

PARENTS = 10
LIMIT = 8
SECONDS = 0.05
DEADLOCK = 3.0
"""How long a parent waits for its children before it says that they are not coming."""


def leaf(flight: Flight, _item: object = None) -> None:
    with flight.aboard():
        time.sleep(SECONDS)


async def leaf_async(flight: Flight, _item: object = None) -> None:
    with flight.aboard():
        await asyncio.sleep(SECONDS)


def parent(flight: Flight, children: int, _item: object) -> None:
    import stratagem

    stratagem.nested([partial(leaf, flight)] * children)


async def parent_async(flight: Flight, children: int, _item: object) -> None:
    import stratagem

    await stratagem.nested_async([partial(leaf_async, flight)] * children)


def flown(children: int, run: Callable[[Flight, int], object]) -> Figures:
    """Time ``run`` over so many children a parent, warmed up, and count who is in flight."""
    with tempfile.TemporaryDirectory() as folder:
        run(Flight.opened(Path(folder, "warm")), 1)
        flight = Flight.opened(Path(folder, "flight"))
        seconds = seconds_of(lambda: run(flight, children))
        bound = PARENTS * children * SECONDS / LIMIT
        return {
            "peak in flight": flight.peak,
            "seconds": seconds,
            "bound": bound,
            "over the bound": seconds / bound,
        }


def ours(spec: str, work: Callable[..., Any]) -> Contender:
    def contender(size: int) -> Figures:
        import stratagem

        with stratagem.Engine(spec) as engine:

            def run(flight: Flight, children: int) -> None:
                engine.map(partial(work, flight, children), range(PARENTS)).raise_for_errors()

            return flown(size, run)

    return contender


def langchain_batch(size: int) -> Figures:
    from langchain_core.runnables import RunnableLambda

    def run(flight: Flight, children: int) -> None:
        inner: Any = RunnableLambda(lambda item: leaf(flight, item))
        outer: Any = RunnableLambda(
            lambda _item: inner.batch([*range(children)], config={"max_concurrency": LIMIT})
        )
        outer.batch([*range(PARENTS)], config={"max_concurrency": LIMIT})

    return flown(size, run)


def langchain_abatch(size: int) -> Figures:
    from langchain_core.runnables import RunnableLambda

    def run(flight: Flight, children: int) -> None:
        inner: Any = RunnableLambda(partial(leaf_async, flight))

        async def ask(_item: int) -> None:
            await inner.abatch([*range(children)], config={"max_concurrency": LIMIT})

        outer: Any = RunnableLambda(ask)
        asyncio.run(outer.abatch([*range(PARENTS)], config={"max_concurrency": LIMIT}))

    return flown(size, run)


def one_executor(size: int) -> Figures:
    """Share one pool between parents and children, as its limit is the one that holds."""
    with ThreadPoolExecutor(LIMIT) as executor:

        def ask(flight: Flight, children: int) -> None:
            futures = [executor.submit(leaf, flight) for _ in range(children)]
            for future in futures:
                try:
                    future.result(DEADLOCK)
                except TimeoutError:
                    sys.exit("deadlock: parents hold every thread")

        def run(flight: Flight, children: int) -> None:
            for future in [executor.submit(ask, flight, children) for _ in range(PARENTS)]:
                future.result()

        return flown(size, run)


NESTED = [
    Contest(
        "nested",
        f"{PARENTS} tasks, each with 10 children of {SECONDS * 1000:g} ms, limit {LIMIT}; "
        "the bound is the sum over the limit.",
        10,
        10,
        {
            "stratagem threads": ours(f"threads(max_workers={LIMIT})", parent),
            "stratagem asyncio": ours(f"asyncio(max_concurrency={LIMIT})", parent_async),
            "stratagem processes": ours(f"processes(max_workers={LIMIT})", parent),
            "LangChain batch": langchain_batch,
            "LangChain abatch": langchain_abatch,
            "one ThreadPoolExecutor": one_executor,
        },
        [Mark("peak in flight", LIMIT), Mark("over the bound", 1.2)],
    ),
]
