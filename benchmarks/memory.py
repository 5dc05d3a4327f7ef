"""Memory over long inputs, and how far ahead of its consumer a run reads."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.measure import resident
from benchmarks.work import nothing, suspend_once

STRATEGIES: dict[str, Callable[[Any], Any]] = {
    "sequential": nothing,
    "threads": nothing,
    "asyncio": suspend_once,
    "processes(max_workers=2)": nothing,
}
Open = Callable[[Iterator[int]], Any]
"""Begin a run over an input, and give what comes of it: an iterator that can be closed."""


@attrs.define
class Pulled(Iterator[int]):
    """Be an endless input that counts what is pulled of it."""

    count: int = 0

    def __next__(self) -> int:
        self.count += 1
        return self.count


def growth(start: Open, size: int) -> Figures:
    """Read a run to its end, after a short one; watch memory and pace."""
    for _ in start(iter(range(200))):
        pass
    before = most = resident()
    began = half = time.perf_counter()
    for number, _ in enumerate(start(number for number in range(size)), 1):
        if number % max(1, size // 100) == 0:
            most = max(most, resident())
        if number == size // 2:
            half = time.perf_counter()
    end = time.perf_counter()
    return {
        "MB grown": most - before,
        "second half / first": (end - half) / (half - began),
        "us a task": (end - began) / size * 1e6,
    }


def idleness(start: Open, milliseconds: int) -> Figures:
    """Take one outcome, then none for a while; count what was pulled."""
    pulled = Pulled()
    outcomes = start(pulled)
    next(outcomes)
    time.sleep(milliseconds / 1000)
    figures: Figures = {"inputs pulled": pulled.count}
    outcomes.close()
    return figures


Measurement = Callable[[Open, int], Figures]


def ours(measure: Measurement, spec: str, function: Callable[[Any], Any]) -> Contender:
    def contender(size: int) -> Figures:
        import stratagem

        with stratagem.Engine(spec) as engine:
            return measure(lambda items: engine.stream_map(function, items), size)

    return contender


def joblib(measure: Measurement) -> Contender:
    def contender(size: int) -> Figures:
        from joblib import Parallel, delayed

        with Parallel(n_jobs=2, return_as="generator") as parallel:
            return measure(lambda items: parallel(delayed(nothing)(item) for item in items), size)

    return contender


def contenders(measure: Measurement) -> dict[str, Contender]:
    strategies = {
        f"stratagem {spec.partition('(')[0]}": ours(measure, spec, function)
        for spec, function in STRATEGIES.items()
    }
    return {**strategies, "joblib generator": joblib(measure)}


MEMORY = [
    Contest(
        "memory",
        "No-op tasks from a generator, outcomes read one by one.",
        1_000_000,
        100_000,
        contenders(growth),
        [Mark("MB grown", 30), Mark("second half / first", 1.2)],
    ),
    Contest(
        "idle-consumer",
        "A consumer of an endless input that reads one outcome, then none for 2 s (quick: 0.5 s).",
        2_000,
        500,
        contenders(idleness),
        [Mark("inputs pulled", 1_000)],
    ),
]
