"""How figures are taken: time over many tasks, and resident memory."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.contest import Figures

STATUS = Path("/proc/self/status")


def resident() -> float:
    """Give the resident memory of this process, in MB."""
    import psutil

    return float(psutil.Process().memory_info().rss / 1e6)


def peak() -> float:
    """Give the most that was ever resident, in MB."""
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def seconds_of(run: Callable[[], object]) -> float:
    """Give the wall time of a call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def per_task(run: Callable[[int], object], size: int, warm: int = 200) -> Figures:
    """Time ``run`` over ``size`` tasks, warmed up."""
    run(warm)
    before = resident()
    seconds = seconds_of(lambda: run(size))
    return {"us a task": seconds / size * 1e6, "MB grown": max(0.0, peak() - before)}
