"""Clusters: our strategies beside what their engines offer themselves, all on this machine.

They run only when they are asked for: starting Ray takes seconds, and what they need is large.
"""

import asyncio
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.bound import over_bound
from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.measure import per_task
from benchmarks.memory import growth
from benchmarks.work import nothing, sleep

WORKERS = 2
THREADS = 4
AT_ONCE = 64
NAP = 0.05
CHUNK = 200
CHUNKS_OUT = 16

Made = Callable[[int], AbstractContextManager[Any]]
"""Makes a cluster of two workers with so many threads each, and what one talks to it with."""


async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def each(items: list[Any]) -> list[Any]:
    return [nothing(item) for item in items]


# Ours.


def ours(plugin: str, spec: str, measure: Callable[[Any, int], Figures]) -> Contender:
    """Measure an engine of ours, if the distribution that has the strategy is there."""

    def contender(size: int) -> Figures:
        import stratagem

        import_module(plugin)
        with stratagem.Engine(spec) as engine:
            return measure(engine, size)

    return contender


def _dispatched(engine: Any, size: int) -> Figures:
    def run(count: int) -> None:
        for outcome in engine.stream_map(nothing, range(count)):
            assert outcome.ok

    return per_task(run, size)


def _napped(function: Callable[[float], Any]) -> Callable[[Any, int], Figures]:
    def measure(engine: Any, size: int) -> Figures:
        def run(durations: list[float]) -> None:
            for outcome in engine.stream_map(function, durations):
                assert outcome.ok

        return over_bound([NAP] * size, AT_ONCE, run)

    return measure


def _grown(engine: Any, size: int) -> Figures:
    return growth(lambda items: engine.stream_map(nothing, items), size)


def dask_spec(threads: int) -> str:
    return f"dask(n_workers={WORKERS}, threads_per_worker={threads})"


def ray_actors(at_once: int) -> str:
    return f"ray(n_workers={WORKERS}, max_concurrency={at_once // WORKERS})"


def ray_tasks(at_once: int) -> str:
    return f"ray(mode='tasks', n_workers={at_once}, num_cpus={WORKERS / at_once})"


# Dask by itself.


@contextmanager
def dask_client(threads: int) -> Iterator[Any]:
    """Make a cluster like that of our strategy."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=threads,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def dask_map(size: int) -> Figures:
    with dask_client(THREADS) as client:
        return per_task(
            lambda count: client.gather(client.map(nothing, range(count), pure=False)), size
        )


def dask_naps(size: int) -> Figures:
    with dask_client(AT_ONCE // WORKERS) as client:

        def run(durations: list[float]) -> None:
            client.gather(client.map(sleep, durations, pure=False))

        return over_bound([NAP] * size, AT_ONCE, run)


def dask_chunks(size: int) -> Figures:
    """Send chunks, a bounded number of them at once, as one does who knows Dask."""

    def start(items: Iterator[int]) -> Iterator[int]:
        from distributed import as_completed

        chunks = iter(lambda: list(itertools.islice(items, CHUNK)), [])
        out = as_completed(
            client.map(each, list(itertools.islice(chunks, CHUNKS_OUT)), pure=False),
            with_results=True,
        )
        for _, values in out:
            yield from values
            for chunk in itertools.islice(chunks, 1):
                out.add(client.submit(each, chunk, pure=False))

    with dask_client(THREADS) as client:
        return growth(start, size)


# Ray by itself.


@contextmanager
def ray_started(_threads: int = 1) -> Iterator[Any]:
    """Start Ray with so many CPUs as there are workers."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", os.urandom(32).hex())
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=place,  # else what it writes stays in a place of its own
        )
        try:
            yield ray
        finally:
            ray.shutdown()


def ray_get(size: int) -> Figures:
    with ray_started() as ray:
        task = ray.remote(nothing)
        return per_task(
            lambda count: ray.get([task.remote(number) for number in range(count)]), size
        )


def ray_naps(size: int) -> Figures:
    with ray_started() as ray:
        task = ray.remote(num_cpus=WORKERS / AT_ONCE)(sleep)

        def run(durations: list[float]) -> None:
            ray.get([task.remote(seconds) for seconds in durations])

        return over_bound([NAP] * size, AT_ONCE, run)


def ray_chunks(size: int) -> Figures:
    """Send chunks, a bounded number of them at once, as one does who knows Ray."""

    def start(items: Iterator[int]) -> Iterator[int]:
        chunks = iter(lambda: list(itertools.islice(items, CHUNK)), [])
        out = [task.remote(chunk) for chunk in itertools.islice(chunks, CHUNKS_OUT)]
        while out:
            done, out = ray.wait(out)
            for values in ray.get(done):
                yield from values
            out += [task.remote(chunk) for chunk in itertools.islice(chunks, 1)]

    with ray_started() as ray:
        task = ray.remote(each)
        return growth(start, size)


# joblib on either.


def joblib(backend: str, made: Made) -> Contender:
    """Run by joblib, which sends batches whose size it finds."""

    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed, parallel_config

        with made(THREADS):
            if backend == "ray":
                from ray.util.joblib import register_ray

                register_ray()
            with parallel_config(backend=backend):
                return per_task(
                    lambda count: Parallel(n_jobs=WORKERS)(
                        delayed(nothing)(number) for number in range(count)
                    ),
                    size,
                )

    return contender


DISPATCH_WORK = f"No-op tasks on {WORKERS} workers"
IO_WORK = f"Tasks that sleep {NAP * 1000:g} ms, {AT_ONCE} at once on {WORKERS} workers"
MEMORY_WORK = f"No-op tasks from a generator on {WORKERS} workers, outcomes read one by one"

CLUSTERS = [
    Contest(
        "dask",
        f"{DISPATCH_WORK} of Dask, {THREADS} threads each.",
        10_000,
        2_000,
        {
            "stratagem dask": ours("stratagem_dask", dask_spec(THREADS), _dispatched),
            "client.map + gather": dask_map,
            "joblib dask": joblib("dask", dask_client),
        },
        [Mark("us a task", 1.0, "joblib dask")],
    ),
    Contest(
        "dask-io",
        f"{IO_WORK} of Dask.",
        4_000,
        800,
        {
            "stratagem dask": ours("stratagem_dask", dask_spec(AT_ONCE // WORKERS), _napped(sleep)),
            "stratagem dask, coroutines": ours(
                "stratagem_dask", dask_spec(AT_ONCE // WORKERS), _napped(nap)
            ),
            "client.map + gather": dask_naps,
        },
        [Mark("over the bound", 1.05, "client.map + gather")],
    ),
    Contest(
        "dask-memory",
        f"{MEMORY_WORK}. `MB grown` counts Dask's scheduler too, which runs in the parent.",
        1_000_000,
        100_000,
        {
            "stratagem dask": ours("stratagem_dask", dask_spec(THREADS), _grown),
            f"client, chunks of {CHUNK}": dask_chunks,
        },
        [Mark("MB grown", 100), Mark("second half / first", 1.2)],
        patience=900.0,
    ),
    Contest(
        "ray",
        f"{DISPATCH_WORK} of Ray.",
        10_000,
        2_000,
        {
            "stratagem ray": ours("stratagem_ray", ray_actors(WORKERS * THREADS), _dispatched),
            "stratagem ray, tasks": ours("stratagem_ray", ray_tasks(WORKERS), _dispatched),
            "ray.get of all": ray_get,
            "joblib ray": joblib("ray", ray_started),
        },
        [Mark("us a task", 1.0, "joblib ray")],
    ),
    Contest(
        "ray-io",
        f"{IO_WORK} of Ray; in its tasks each of them has a process.",
        4_000,
        800,
        {
            "stratagem ray": ours("stratagem_ray", ray_actors(AT_ONCE), _napped(sleep)),
            "stratagem ray, coroutines": ours("stratagem_ray", ray_actors(AT_ONCE), _napped(nap)),
            "stratagem ray, tasks": ours("stratagem_ray", ray_tasks(AT_ONCE), _napped(sleep)),
            "ray.get of all": ray_naps,
        },
        [Mark("over the bound", 1.0, "ray.get of all")],
    ),
    Contest(
        "ray-memory",
        f"{MEMORY_WORK}.",
        1_000_000,
        100_000,
        {
            "stratagem ray": ours("stratagem_ray", ray_actors(WORKERS * THREADS), _grown),
            "stratagem ray, tasks": ours("stratagem_ray", ray_tasks(WORKERS), _grown),
            f"ray.wait, chunks of {CHUNK}": ray_chunks,
        },
        [Mark("MB grown", 100), Mark("second half / first", 1.2)],
        patience=900.0,
    ),
]
