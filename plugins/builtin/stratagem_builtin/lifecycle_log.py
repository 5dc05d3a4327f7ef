"""The lifecycle of runs and tasks as structured log lines, on structlog over logger ``stratagem``.

Below WARNING it is quiet unless asked, by ``log=`` or by the level of the logger,
and where nothing would be logged it does not listen at all.
Argument values, results, messages of errors and locals are never logged.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

from stratagem import Outcome, Report, Run, Task, current_task, hookimpl

__all__ = ["stratagem_listeners"]

LOGGER = "stratagem"
MOST_WARNINGS = 10
"""How many failures of a run are warnings; those after them are logged as information."""


@hookimpl
def stratagem_listeners(run: Run) -> Iterable[object]:
    """Listen to as much of a run as would be logged."""
    stamp_records()
    logger = _logger_for(run)
    if logger.isEnabledFor(logging.DEBUG):
        return [_Everything(run, logger)]
    if logger.isEnabledFor(logging.INFO):
        return [_EndsAndRuns(run, logger)]
    if logger.isEnabledFor(logging.WARNING):
        return [_Failures(run, logger)]
    return []


def _logger_for(run: Run) -> logging.Logger:
    """Give the logger of a run: one below ``stratagem`` where that has another level."""
    logger = logging.getLogger(LOGGER)
    if not run.log:
        return logger
    level = _level(run.log)
    if not logger.isEnabledFor(level) or level > logging.WARNING:
        logger = logger.getChild(logging.getLevelName(level).lower())
        logger.setLevel(level)
    if not logger.hasHandlers():
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    return logger


class _Stderr(logging.Handler):
    """Write to what ``sys.stderr`` is by then: a progress display may stand in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as logging has it: a line that cannot be written costs nothing
            self.handleError(record)


def _level(asked: str | bool) -> int:  # noqa: FBT001 - it is what the caller gave
    name = "INFO" if asked is True else str(asked).upper()
    return logging.getLevelNamesMapping()[name]


def _bound_logger(run: Run, logger: logging.Logger) -> Any:
    import structlog  # noqa: PLC0415 - a tenth of a second that quiet runs do without

    facts: dict[str, object] = {"run_id": run.id, "strategy": run.strategy}
    if run.parent is not None:
        facts |= {"parent_run_id": run.parent.run_id, "parent_key": run.parent.key}
    if structlog.is_configured():
        return structlog.stdlib.get_logger(logger.name).bind(**facts)
    return structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind(**facts)


class _Failures:
    """Log what goes wrong."""

    def __init__(self, run: Run, logger: logging.Logger) -> None:
        self._run = run
        self._logger = logger
        self._made: Any = None
        self._warnings = 0

    @property
    def log(self) -> Any:
        if self._made is None:
            self._made = _bound_logger(self._run, self._logger)
        return self._made

    def stratagem_task_error(self, task: Task, outcome: Outcome) -> None:
        facts = _facts(task, outcome)
        if outcome.status == "cancelled" or self._warnings >= MOST_WARNINGS:
            self.log.info("task_failed", **facts, error_type=_error_type(outcome))
            return
        self._warnings += 1
        self.log.warning("task_failed", **facts, error_type=_error_type(outcome))
        if self._warnings == MOST_WARNINGS:
            self.log.warning("further_failures_are_logged_as_info")


class _EndsAndRuns(_Failures):
    """Log how tasks and runs end, too."""

    def stratagem_before_run(self) -> None:
        self.log.info("run_started", total=self._run.total, name=self._run.name)

    def stratagem_after_run(self, report: Report) -> None:
        counts = {status.value: count for status, count in report.counts.items()}
        self.log.info(
            "run_finished", seconds=round(report.seconds, 6), stopped=report.stopped, **counts
        )

    def stratagem_after_task(self, task: Task, outcome: Outcome) -> None:
        if outcome.ok:
            self.log.info("task_succeeded", **_facts(task, outcome))


class _Everything(_EndsAndRuns):
    """Log that tasks start, too."""

    def stratagem_before_task(self, task: Task) -> None:
        self.log.debug("task_started", task_key=task.key, name=task.name)


def _facts(task: Task, outcome: Outcome) -> dict[str, object]:
    return {
        "task_key": task.key,
        "name": task.name,
        "status": outcome.status.value,
        "worker": outcome.worker,
        "seconds": round(outcome.seconds, 6),
        "attempts": outcome.attempts,
        **({"recalled": True} if outcome.recalled else {}),
    }


def _error_type(outcome: Outcome) -> str:
    named = getattr(outcome.error, "type_name", None)
    return named if isinstance(named, str) else type(outcome.error).__qualname__


def stamp_records() -> None:
    """Have every log record say in which task it was logged.

    It is said as ``stratagem_run_id`` and ``stratagem_task_key``: a plainer name might be one
    that the program gives in ``extra=``, which ``logging`` then refuses.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "stamps_tasks", False):
        return

    def make_stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        task = current_task()
        record.stratagem_run_id = "" if task is None else task.run_id
        record.stratagem_task_key = "" if task is None else task.key
        return record

    make_stamped.stamps_tasks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_stamped)
