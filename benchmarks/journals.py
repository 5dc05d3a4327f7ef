"""Outcomes kept on disk: no-op tasks, each durable before anybody hears of it, and read again."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.measure import per_task, seconds_of
from benchmarks.work import nothing

__all__ = ["JOURNALS"]

IN_FLIGHT = 64
SPEC = f"threads(max_workers={IN_FLIGHT})"
AGAIN = 3
"""A difference of two times wants each of them at its best."""

SMALLER = 20
"""A peer that syncs each outcome by itself does so much less work, and its time is of a task."""


@contextmanager
def new_file(name: str) -> Iterator[str]:
    """Name a file that is not there, on the disk of the temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory) / name)


def ours(durability: str) -> Contender:
    """Run by our engine, with a journal."""

    def contender(size: int) -> Figures:
        return per_task(partial(run, durability=durability), size)

    def run(count: int, durability: str) -> None:
        with new_file("run.db") as path:
            consume(count, f"journal({SPEC}, path={path!r}, durability={durability!r})")

    return contender


def consume(count: int, spec: str) -> None:
    import stratagem

    with stratagem.Engine(spec) as engine:
        for outcome in engine.stream_map(nothing, range(count)):
            assert outcome.ok


def without(size: int) -> Figures:
    return per_task(lambda count: consume(count, SPEC), size)


def json_lines(size: int) -> Figures:
    """Have a pool call, and add a line for each outcome that is synced, one at a time."""

    def run(count: int) -> None:
        turn = threading.Lock()
        with new_file("out.jsonl") as path, Path(path).open("ab", buffering=0) as file:

            def one(item: int) -> None:
                line = json.dumps({"key": item, "value": nothing(item)}).encode() + b"\n"
                with turn:
                    file.write(line)
                    os.fsync(file.fileno())

            with ThreadPoolExecutor(IN_FLIGHT) as executor:
                for _ in executor.map(one, range(count)):
                    pass

    return per_task(run, size // SMALLER)


def dbos(size: int) -> Figures:
    """Run a workflow of one step for each task, on SQLite."""
    from dbos import DBOS

    with new_file("dbos.db") as path:
        DBOS(config={"name": "contest", "system_database_url": f"sqlite:///{path}",
                     "log_level": "ERROR", "run_admin_server": False})  # fmt: skip

        @DBOS.step()
        def step(item: int) -> int:
            return item

        @DBOS.workflow()
        def workflow(item: int) -> int:
            return step(item)

        DBOS.launch()
        try:

            def run(count: int) -> None:
                with ThreadPoolExecutor(IN_FLIGHT) as executor:
                    for _ in executor.map(workflow, range(count)):
                        pass

            return per_task(run, size // (10 * SMALLER), warm=20)
        finally:
            DBOS.destroy()


def resumed(size: int) -> Figures:
    """Go on with a run in which all is done; what it costs over one that has nothing to keep."""
    with new_file("run.db") as path:
        spec = f"journal({SPEC}, path={path!r}, durability='process')"
        consume(size, spec)
        again = min(seconds_of(lambda: consume(size, spec)) for _ in range(AGAIN))
    handed_out = min(seconds_of(lambda: consume(size, SPEC)) for _ in range(AGAIN))
    return {"s in all": again, "s of its own": max(0.0, again - handed_out)}


def lines_read_again(size: int) -> Figures:
    """Read the keys of a file of lines, and skip what is in it."""
    with new_file("out.jsonl") as path:
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(f'{{"key": {n}, "value": {n}}}\n' for n in range(size))

        def read() -> None:
            with Path(path).open(encoding="utf-8") as file:
                known = {record["key"]: record for record in map(json.loads, file)}
            assert not [item for item in range(size) if item not in known]

        seconds = min(seconds_of(read) for _ in range(AGAIN))
    return {"s in all": seconds, "s of its own": seconds}


CONTENDERS: dict[str, Callable[[int], Any]] = {
    "stratagem": ours("full"),
    "stratagem, process": ours("process"),
    "no journal": without,
    "JSONL and fsync": json_lines,
    "DBOS on SQLite": dbos,
}

JOURNALS = [
    Contest(
        "journal",
        f"No-op tasks, {IN_FLIGHT} in flight, each outcome on disk before it is handed out.",
        100_000,
        4_000,
        CONTENDERS,
        [Mark("us a task", 100)],
    ),
    Contest(
        "resume",
        "Go on with a run of which all is done.",
        100_000,
        10_000,
        {"stratagem": resumed, "JSONL, read and skipped": lines_read_again},
        [Mark("s of its own", 1.0)],
    ),
]
