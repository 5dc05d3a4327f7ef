"""Cost of the engine: no-op tasks, microseconds each."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.measure import per_task, seconds_of
from benchmarks.work import nothing, suspend_once

IN_FLIGHT = 100


def ours(spec: str, function: Callable[[Any], Any]) -> Contender:
    """Run by our engine, one Outcome a task, none kept."""

    def contender(size: int) -> Figures:
        import stratagem

        with stratagem.Engine(spec) as engine:

            def run(count: int) -> None:
                for outcome in engine.stream_map(function, range(count)):
                    assert outcome.ok

            return per_task(run, size)

    return contender


def ours_on_callers_loop(use: Callable[[Any, int], Awaitable[None]]) -> Contender:
    """Run by our engine, on the loop of the caller."""

    def contender(size: int) -> Figures:
        import stratagem

        async def main(count: int) -> None:
            await use(engine, count)

        with stratagem.Engine(f"asyncio(max_concurrency={IN_FLIGHT})") as engine:
            return per_task(lambda count: asyncio.run(main(count)), size)

    return contender


async def astream_list(engine: Any, count: int) -> None:
    async for outcome in engine.astream([partial(suspend_once, item) for item in range(count)]):
        assert outcome.ok


async def astream_generator(engine: Any, count: int) -> None:
    async for outcome in engine.astream(partial(suspend_once, item) for item in range(count)):
        assert outcome.ok


async def amap(engine: Any, count: int) -> None:
    report = await engine.amap(suspend_once, range(count))
    assert report.ok


def joblib(**options: Any) -> Contender:
    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed

        with Parallel(**options) as parallel:
            return per_task(lambda count: parallel(delayed(nothing)(i) for i in range(count)), size)

    return contender


def joblib_cold(size: int) -> Figures:
    from joblib import Parallel, delayed

    seconds = seconds_of(lambda: Parallel(n_jobs=2)(delayed(nothing)(i) for i in range(size)))
    return {"us a task": seconds / size * 1e6}


def bare_loop(size: int) -> Figures:
    return per_task(lambda count: [nothing(i) for i in range(count)], size)


def executor_submit(size: int) -> Figures:
    with ThreadPoolExecutor(8) as executor:

        def run(count: int) -> None:
            for future in [executor.submit(nothing, i) for i in range(count)]:
                future.result()

        return per_task(run, size)


def executor_map(size: int) -> Figures:
    with ThreadPoolExecutor(8) as executor:
        return per_task(lambda count: list(executor.map(nothing, range(count))), size)


def mpire(workers: int, start_method: str) -> Contender:
    def contender(size: int) -> Figures:
        from mpire.pool import WorkerPool

        with WorkerPool(workers, start_method=start_method, keep_alive=True) as pool:
            return per_task(lambda count: pool.map(nothing, range(count)), size)

    return contender


def gather_and_semaphore(size: int) -> Figures:
    async def main(count: int) -> None:
        semaphore = asyncio.Semaphore(IN_FLIGHT)

        async def one(item: int) -> object:
            async with semaphore:
                return await suspend_once(item)

        await asyncio.gather(*(one(item) for item in range(count)))

    return per_task(lambda count: asyncio.run(main(count)), size)


def aiometer(size: int) -> Figures:
    import aiometer

    def run(count: int) -> None:
        calls = [partial(suspend_once, item) for item in range(count)]
        asyncio.run(aiometer.run_all(calls, max_at_once=IN_FLIGHT))

    return per_task(run, size)


def process_pool_executor(size: int) -> Figures:
    with ProcessPoolExecutor(2) as executor:
        return per_task(lambda count: list(executor.map(nothing, range(count))), size // 10)


def pebble(size: int) -> Figures:
    from pebble import ProcessPool

    with ProcessPool(2) as pool:
        return per_task(lambda count: list(pool.map(nothing, range(count)).result()), size // 10)


def multiprocessing_pool(size: int) -> Figures:
    from multiprocessing import Pool

    with Pool(2) as pool:
        return per_task(lambda count: pool.map(nothing, range(count)), size)


DISPATCH = [
    Contest(
        "sequential",
        "No-op tasks, one after another.",
        100_000,
        20_000,
        {
            "stratagem": ours("sequential", nothing),
            "joblib n_jobs=1": joblib(n_jobs=1),
            "bare loop": bare_loop,
        },
        [Mark("us a task", 1.5, "joblib n_jobs=1")],
    ),
    Contest(
        "threads",
        "No-op tasks, 8 threads.",
        100_000,
        20_000,
        {
            "stratagem": ours("threads", nothing),
            "ThreadPoolExecutor": executor_submit,
            "ThreadPoolExecutor map": executor_map,
            "joblib threading": joblib(n_jobs=8, backend="threading"),
            "mpire threading": mpire(8, "threading"),
        },
        [Mark("us a task", 0.2, "ThreadPoolExecutor")],
    ),
    Contest(
        "asyncio",
        f"Coroutines that suspend once, {IN_FLIGHT} in flight.",
        100_000,
        10_000,
        {
            "stratagem": ours(f"asyncio(max_concurrency={IN_FLIGHT})", suspend_once),
            "stratagem astream, list": ours_on_callers_loop(astream_list),
            "stratagem astream, generator": ours_on_callers_loop(astream_generator),
            "stratagem amap": ours_on_callers_loop(amap),
            "gather + Semaphore": gather_and_semaphore,
            "aiometer": aiometer,
        },
        [Mark("us a task", 0.25, "gather + Semaphore")],
    ),
    Contest(
        "processes",
        "No-op tasks, 2 processes.",
        100_000,
        20_000,
        {
            "stratagem": ours("processes(max_workers=2)", nothing),
            "joblib warm": joblib(n_jobs=2),
            "joblib cold": joblib_cold,
            "multiprocessing.Pool": multiprocessing_pool,
            "mpire": mpire(2, "forkserver"),
            "Pebble": pebble,
            "ProcessPoolExecutor": process_pool_executor,
        },
        [Mark("us a task", 1.0, "joblib warm")],
    ),
]
