"""Reaching the limit: tasks of very unlike run times, over the in-order greedy schedule."""

import random
from collections.abc import Callable

from benchmarks.bound import over_bound
from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.work import sleep

WORKERS = 8
Durations = Callable[[int], list[float]]


def tiny_then_heavy(size: int) -> list[float]:
    return [0.0001] * size + [0.25] * 24


def one_heavy_first(size: int) -> list[float]:
    return [1.0] + [0.0005] * size


def lognormal(size: int) -> list[float]:
    draw = random.Random(7)
    return [min(1.5, draw.lognormvariate(-5.2, 1.6)) for _ in range(size)]


def ours(make: Durations) -> Contender:
    def contender(size: int) -> Figures:
        import stratagem

        with stratagem.Engine(f"processes(max_workers={WORKERS})") as engine:
            return over_bound(make(size), WORKERS, lambda given: engine.map(sleep, given).values)

    return contender


def joblib(make: Durations) -> Contender:
    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed

        with Parallel(n_jobs=WORKERS) as parallel:
            return over_bound(
                make(size), WORKERS, lambda given: parallel(delayed(sleep)(one) for one in given)
            )

    return contender


def process_pool_executor(make: Durations) -> Contender:
    def contender(size: int) -> Figures:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(WORKERS) as executor:
            return over_bound(make(size), WORKERS, lambda given: list(executor.map(sleep, given)))

    return contender


def multiprocessing_pool(make: Durations) -> Contender:
    def contender(size: int) -> Figures:
        from multiprocessing import Pool

        with Pool(WORKERS) as pool:
            return over_bound(make(size), WORKERS, lambda given: pool.map(sleep, given))

    return contender


def mpire(make: Durations) -> Contender:
    def contender(size: int) -> Figures:
        from mpire.pool import WorkerPool

        with WorkerPool(WORKERS, keep_alive=True) as pool:
            return over_bound(make(size), WORKERS, lambda given: pool.map(sleep, given))

    return contender


def contest(name: str, work: str, sizes: tuple[int, int], make: Durations, most: float) -> Contest:
    return Contest(
        name,
        f"{work}, {WORKERS} processes.",
        *sizes,
        {
            "stratagem": ours(make),
            "ProcessPoolExecutor": process_pool_executor(make),
            "mpire": mpire(make),
            "joblib": joblib(make),
            "multiprocessing.Pool": multiprocessing_pool(make),
        },
        [Mark("over the bound", most)],
    )


LIMITS = [
    contest(
        "tiny-then-heavy",
        "3,000 tasks of 0.1 ms, then 24 of 250 ms",
        (3_000, 3_000),
        tiny_then_heavy,
        1.15,
    ),
    contest(
        "lognormal",
        "Tasks of lognormal length (mu -5.2, sigma 1.6, at most 1.5 s)",
        (800, 200),
        lognormal,
        1.05,
    ),
    contest(
        "one-heavy-first",
        "One task of 1 s, then 4,000 of 0.5 ms",
        (4_000, 4_000),
        one_heavy_first,
        1.1,
    ),
]
