"""Cost of listening: a hook with one listener, and the lifecycle log."""

import logging
import os
import statistics
import time
from functools import partial
from typing import Any

from benchmarks.contest import Contest, Figures, Mark
from benchmarks.dispatch import ours
from benchmarks.measure import per_task, seconds_of
from benchmarks.work import nothing

PAIRS = 5


def one_listener(size: int) -> Figures:
    """Take the difference to no listener, in pairs of runs: it is small beside their noise."""
    import stratagem

    class Listener:
        @stratagem.hookimpl
        def stratagem_after_task(self, outcome: Any) -> None:
            """Do nothing."""

    def run(engine: stratagem.Engine) -> None:
        for outcome in engine.stream_map(nothing, range(size // PAIRS)):
            assert outcome.ok

    with (
        stratagem.Engine("sequential", plugins=[Listener()]) as heard,
        stratagem.Engine("sequential") as unheard,
    ):
        run(heard)
        run(unheard)
        pairs = [
            (seconds_of(partial(run, heard)), seconds_of(partial(run, unheard)))
            for _ in range(PAIRS)
        ]
    microseconds = 1e6 / (size // PAIRS)
    return {
        "us a listener": statistics.median(loud - quiet for loud, quiet in pairs) * microseconds,
        "us a task without": statistics.median(quiet for _, quiet in pairs) * microseconds,
    }


def pluggy_call(size: int) -> Figures:
    import pluggy

    specified, implemented = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Specs:
        @specified
        def after_task(self, outcome: Any) -> None:
            """Tell that a task ended."""

    class Listener:
        @implemented
        def after_task(self, outcome: Any) -> None:
            """Do nothing."""

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Specs)
    manager.register(Listener())
    call = manager.hook.after_task
    began = time.perf_counter()
    for index in range(size):
        call(outcome=index)
    return {"us a listener": (time.perf_counter() - began) / size * 1e6}


def logger_to_nowhere() -> logging.Logger:
    logger = logging.getLogger("stratagem")
    logger.addHandler(logging.FileHandler(os.devnull))
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


def ours_with_log(size: int) -> Figures:
    logger_to_nowhere()
    return ours("threads", nothing)(size)


def two_structlog_lines(size: int) -> Figures:
    import structlog

    log = structlog.wrap_logger(
        logger_to_nowhere(),
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


LISTENING = [
    Contest(
        "hooks",
        "What one listener to the end of tasks adds to a no-op task, beside a bare call of pluggy.",
        100_000,
        20_000,
        {"stratagem": one_listener, "pluggy call": pluggy_call},
        [Mark("us a listener", 5)],
    ),
    Contest(
        "log",
        "A no-op task with its log, JSON to a file, beside two lines of structlog.",
        20_000,
        5_000,
        {"stratagem": ours_with_log, "two structlog lines": two_structlog_lines},
        [Mark("us a task", 1.0, "two structlog lines")],
    ),
]
