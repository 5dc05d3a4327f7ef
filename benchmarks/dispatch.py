"""Cost of the engine: no-op tasks, microseconds each."""

import asyncio
import logging
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.contest import Contender, Contest, Figures
from benchmarks.work import nothing, suspend_once


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def per_task(run: Callable[[int], object], size: int, warm: int = 200) -> Figures:
    """Time ``run`` over ``size`` tasks, warmed up, in microseconds a task."""
    run(warm)
    before = _resident()
    began = time.perf_counter()
    run(size)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"value": seconds / size * 1e6, "peak MB over start": max(0.0, peak - before)}


def ours(spec: str, function: Callable[[Any], Any], **options: Any) -> Contender:
    """Run by our engine, one Outcome a task, nothing kept."""

    def contender(size: int) -> Figures:
        import stratagem

        engine = stratagem.Engine(spec, plugins=options.pop("plugins", None))

        def run(count: int) -> None:
            for outcome in engine.stream_map(function, range(count), **options):
                assert outcome.ok

        with engine:
            return per_task(run, size)

    return contender


def joblib(**options: Any) -> Contender:
    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed

        with Parallel(**options) as parallel:
            return per_task(lambda count: parallel(delayed(nothing)(i) for i in range(count)), size)

    return contender


def bare_loop(size: int) -> Figures:
    return per_task(lambda count: [nothing(i) for i in range(count)], size)


def thread_pool_executor(size: int) -> Figures:
    with ThreadPoolExecutor(8) as executor:

        def run(count: int) -> None:
            for future in [executor.submit(nothing, i) for i in range(count)]:
                future.result()

        return per_task(run, size)


def mpire(workers: int, start_method: str) -> Contender:
    def contender(size: int) -> Figures:
        from mpire import WorkerPool

        with WorkerPool(workers, start_method=start_method, keep_alive=True) as pool:
            return per_task(lambda count: pool.map(nothing, range(count)), size)

    return contender


async def _gather(count: int) -> None:
    semaphore = asyncio.Semaphore(100)

    async def one(item: int) -> object:
        async with semaphore:
            return await suspend_once(item)

    await asyncio.gather(*(one(i) for i in range(count)))


def gather_and_semaphore(size: int) -> Figures:
    return per_task(lambda count: asyncio.run(_gather(count)), size)


def aiometer(size: int) -> Figures:
    from functools import partial

    import aiometer

    def run(count: int) -> None:
        calls = [partial(suspend_once, i) for i in range(count)]
        asyncio.run(aiometer.run_all(calls, max_at_once=100))

    return per_task(run, size)


def ours_on_callers_loop(size: int) -> Figures:
    import stratagem

    async def stream(engine: stratagem.Engine, count: int) -> None:
        from functools import partial

        async for outcome in engine.astream(partial(suspend_once, i) for i in range(count)):
            assert outcome.ok

    with stratagem.Engine("asyncio(max_concurrency=100)") as engine:
        return per_task(lambda count: asyncio.run(stream(engine, count)), size)


def process_pool_executor(size: int) -> Figures:
    with ProcessPoolExecutor(2) as executor:
        return per_task(lambda count: list(executor.map(nothing, range(count))), size // 10)


def pebble(size: int) -> Figures:
    from pebble import ProcessPool

    with ProcessPool(2) as pool:
        return per_task(lambda count: list(pool.map(nothing, range(count)).result()), size // 10)


class Listener:
    """Listen to one hook."""

    from stratagem import hookimpl

    @hookimpl
    def stratagem_after_task(self, outcome: Any) -> None:
        """Do nothing."""


def ours_with_log(size: int) -> Figures:
    handler = logging.FileHandler(os.devnull)
    logger = logging.getLogger("stratagem")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return ours("threads", nothing)(size)


def two_structlog_lines(size: int) -> Figures:
    import structlog

    logger = logging.getLogger("stratagem")
    logger.addHandler(logging.FileHandler(os.devnull))
    logger.propagate = False
    logger.setLevel(logging.INFO)
    log = structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind(run_id="0123456789ab", strategy="threads")

    def run(count: int) -> None:
        for index in range(2 * count):
            log.info("task_succeeded", task_key=str(index), name="nothing", seconds=0.1)

    return per_task(run, size)


MICROSECONDS = "us a task"

DISPATCH = [
    Contest(
        "sequential",
        MICROSECONDS,
        100_000,
        20_000,
        {
            "stratagem": ours("sequential", nothing),
            "joblib n_jobs=1": joblib(n_jobs=1),
            "bare loop": bare_loop,
        },
        "at most 1.5 of joblib n_jobs=1",
        "joblib n_jobs=1",
        1.5,
    ),
    Contest(
        "threads",
        MICROSECONDS,
        100_000,
        20_000,
        {
            "stratagem": ours("threads", nothing),
            "ThreadPoolExecutor": thread_pool_executor,
            "joblib threading": joblib(n_jobs=8, backend="threading"),
            "mpire threading": mpire(8, "threading"),
        },
        "at most a fifth of ThreadPoolExecutor",
        "ThreadPoolExecutor",
        0.2,
    ),
    Contest(
        "asyncio",
        MICROSECONDS,
        100_000,
        20_000,
        {
            "stratagem": ours("asyncio(max_concurrency=100)", suspend_once),
            "stratagem on the caller's loop": ours_on_callers_loop,
            "gather + Semaphore": gather_and_semaphore,
            "aiometer": aiometer,
        },
        "at most a quarter of gather + Semaphore",
        "gather + Semaphore",
        0.25,
    ),
    Contest(
        "processes",
        MICROSECONDS,
        100_000,
        20_000,
        {
            "stratagem": ours("processes(max_workers=2)", nothing),
            "joblib warm": joblib(n_jobs=2),
            "ProcessPoolExecutor": process_pool_executor,
            "Pebble": pebble,
            "mpire": mpire(2, "forkserver"),
        },
        "at most joblib warm",
        "joblib warm",
        1.0,
    ),
    Contest(
        "listener",
        MICROSECONDS,
        100_000,
        20_000,
        {
            "stratagem, one listener": ours("sequential", nothing, plugins=[Listener()]),
            "stratagem, none": ours("sequential", nothing),
        },
        "one listener costs at most 5 us a task",
    ),
    Contest(
        "log",
        MICROSECONDS,
        20_000,
        5_000,
        {"stratagem, log to a file": ours_with_log, "two structlog lines": two_structlog_lines},
        "at most two structlog lines a task",
        "two structlog lines",
        1.0,
    ),
]
