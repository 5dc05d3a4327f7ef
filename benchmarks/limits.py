"""Reaching the limit: wall time over the in-order greedy schedule."""

import heapq
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contest import Contender, Contest, Figures
from benchmarks.work import sleep


def greedy_bound(durations: Sequence[float], workers: int) -> float:
    """Give the wall time of the in-order greedy schedule, in seconds."""
    free = [0.0] * workers
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def tiny_then_heavy(size: int) -> list[float]:
    return [0.0001] * size + [0.25] * 24


def one_heavy_first(size: int) -> list[float]:
    return [1.0] + [0.0005] * size


def lognormal(size: int) -> list[float]:
    draw = random.Random(7)
    return [min(1.5, draw.lognormvariate(-5.2, 1.6)) for _ in range(size)]


def timed(durations: list[float], workers: int, run: Callable[[list[float]], object]) -> Figures:
    run([0.0] * 4 * workers)
    began = time.perf_counter()
    run(durations)
    return {"value": time.perf_counter() - began, "bound": greedy_bound(durations, workers)}


def ours(spec: str, workers: int, make: Callable[[int], list[float]]) -> Contender:
    def contender(size: int) -> Figures:
        import stratagem

        with stratagem.Engine(f"{spec}(max_workers={workers})") as engine:
            return timed(make(size), workers, lambda durations: engine.map(sleep, durations).values)

    return contender


def joblib(workers: int, make: Callable[[int], list[float]]) -> Contender:
    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed

        with Parallel(n_jobs=workers) as parallel:
            return timed(make(size), workers, lambda ds: parallel(delayed(sleep)(d) for d in ds))

    return contender


def process_pool_executor(workers: int, make: Callable[[int], list[float]]) -> Contender:
    def contender(size: int) -> Figures:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(workers) as executor:
            return timed(make(size), workers, lambda ds: list(executor.map(sleep, ds)))

    return contender


def _contest(name: str, size: int, quick: int, make: Any, at_most: float) -> Contest:
    return Contest(
        name,
        "s",
        size,
        quick,
        {
            "stratagem processes": ours("processes", 8, make),
            "joblib": joblib(8, make),
            "ProcessPoolExecutor": process_pool_executor(8, make),
        },
        f"at most {at_most} of the bound",
        None,
        at_most,
    )


LIMITS = [
    _contest("tiny-then-heavy", 3_000, 3_000, tiny_then_heavy, 1.15),
    _contest("lognormal", 800, 400, lognormal, 1.05),
    _contest("one-heavy-first", 4_000, 4_000, one_heavy_first, 1.1),
]
