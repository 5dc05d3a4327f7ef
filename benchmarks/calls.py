"""Calls of a server that takes its time, as of a model: threads and asyncio over httpx."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks.bound import over_bound
from benchmarks.contest import Contest, Figures, Mark
from benchmarks.server import serving

if TYPE_CHECKING:
    import httpx

AT_ONCE = 64
MEDIAN = 0.4
SIGMA = 0.5
Call = Callable[[float], Coroutine[Any, Any, str]]


def latencies(size: int) -> list[float]:
    draw = random.Random(7)
    return [draw.lognormvariate(math.log(MEDIAN), SIGMA) for _ in range(size)]


def settings(address: str) -> dict[str, Any]:
    return {"base_url": address, "timeout": 60.0, "trust_env": False}


def client_for_threads(address: str) -> "httpx.Client":
    """Make a client that keeps every connection.

    One that closes those beyond its limit now and then closes one that another thread has just
    been given, and that call fails.
    """
    import httpx

    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    return httpx.Client(**settings(address), limits=limits)


def client_for_loop(address: str) -> "httpx.AsyncClient":
    """Make a client with the limits that it comes with, which let 100 calls be made at once.

    One that keeps every connection looks through all of them for each call: many times what any
    contender costs.
    """
    import httpx

    return httpx.AsyncClient(**settings(address))


def in_threads(size: int, prepare: Callable[[Callable[[float], str]], Any]) -> Figures:
    """Time calls by one shared client; ``prepare`` gives what makes them all."""
    with serving() as address, client_for_threads(address) as client:

        def call(seconds: float) -> str:
            return client.get(f"/{seconds}").raise_for_status().text

        return over_bound(latencies(size), AT_ONCE, prepare(call))


def caller(client: "httpx.AsyncClient") -> Call:
    async def call(seconds: float) -> str:
        return (await client.get(f"/{seconds}")).raise_for_status().text

    return call


def ours_threads(size: int) -> Figures:
    import stratagem

    with stratagem.Engine(f"threads(max_workers={AT_ONCE})") as engine:
        return in_threads(size, lambda call: lambda given: engine.map(call, given).values)


def ours_asyncio(size: int) -> Figures:
    import stratagem

    with serving() as address, stratagem.Engine(f"asyncio(max_concurrency={AT_ONCE})") as engine:
        client = client_for_loop(address)
        call = caller(client)
        figures = over_bound(latencies(size), AT_ONCE, lambda given: engine.map(call, given).values)
        engine.run([client.aclose]).raise_for_errors()
        return figures


def langchain_batch(size: int) -> Figures:
    from langchain_core.runnables import RunnableLambda

    return in_threads(
        size,
        lambda call: (
            lambda given: RunnableLambda(call).batch(given, config={"max_concurrency": AT_ONCE})
        ),
    )


def on_a_loop(size: int, run: Callable[[Call, list[float]], Coroutine[Any, Any, Any]]) -> Figures:
    """Time calls by one shared client on one loop; ``run`` makes them all."""
    with serving() as address, asyncio.Runner() as runner:
        client = client_for_loop(address)
        call = caller(client)
        figures = over_bound(latencies(size), AT_ONCE, lambda given: runner.run(run(call, given)))
        runner.run(client.aclose())
        return figures


async def all_gathered(call: Call, given: list[float]) -> None:
    semaphore = asyncio.Semaphore(AT_ONCE)

    async def one(seconds: float) -> str:
        async with semaphore:
            return await call(seconds)

    await asyncio.gather(*(one(seconds) for seconds in given))


def gather_and_semaphore(size: int) -> Figures:
    return on_a_loop(size, all_gathered)


def langchain_abatch(size: int) -> Figures:
    from langchain_core.runnables import RunnableLambda

    async def run(call: Call, given: list[float]) -> None:
        chain: Any = RunnableLambda(call)
        await chain.abatch(given, config={"max_concurrency": AT_ONCE})

    return on_a_loop(size, run)


def thread_pool_executor(size: int) -> Figures:
    with ThreadPoolExecutor(AT_ONCE) as executor:
        return in_threads(size, lambda call: lambda given: list(executor.map(call, given)))


CALLS = [
    Contest(
        "calls",
        f"HTTP calls of lognormal latency (median {MEDIAN * 1000:g} ms, sigma {SIGMA:g}), "
        f"{AT_ONCE} at once.",
        1_000,
        192,
        {
            "stratagem threads": ours_threads,
            "stratagem asyncio": ours_asyncio,
            "ThreadPoolExecutor": thread_pool_executor,
            "gather + Semaphore": gather_and_semaphore,
            "LangChain batch": langchain_batch,
            "LangChain abatch": langchain_abatch,
        },
        [Mark("over the bound", 1.05)],
    ),
]
