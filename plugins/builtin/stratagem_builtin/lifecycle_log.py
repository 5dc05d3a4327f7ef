"""The lifecycle of runs and tasks as structured log lines, over the logger ``stratagem``.

They are lines of JSON, or what the processors make of them where structlog is configured.

Below WARNING it is quiet unless asked, by ``log=`` or by the level of the logger,
and where nothing would be logged it does not listen at all.
Argument values, results, messages of errors and locals are never logged.
"""

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

from stratagem import Outcome, Report, Run, Task, current_task, hookimpl

__all__ = ["JsonLines", "stratagem_listeners"]

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


class _Lines(Protocol):
    """Be what events are told to: a bound logger of structlog, or the like of it."""

    def debug(self, event: str, **facts: object) -> object: ...
    def info(self, event: str, **facts: object) -> object: ...
    def warning(self, event: str, **facts: object) -> object: ...


class JsonLines:
    """Write events as structlog does with a renderer of JSON, in a third of the time.

    Args:
        logger: where to.
        shared: the facts that every line begins with.
    """

    def __init__(self, logger: logging.Logger, shared: dict[str, object]) -> None:
        self._logger = logger
        self._head = _json(shared).removesuffix("}")

    def debug(self, event: str, **facts: object) -> None:
        """Write an event."""
        self._write(logging.DEBUG, "debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Write an event."""
        self._write(logging.INFO, "info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Write an event."""
        self._write(logging.WARNING, "warning", event, facts)

    def _write(self, level: int, name: str, event: str, facts: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            facts |= {"event": event, "level": name, "timestamp": now}
            text = f"{self._head}, {_json(facts)[1:]}"
            self._logger.log(level, text)


_json = json.JSONEncoder(default=repr).encode


def _lines_of(run: Run, logger: logging.Logger) -> _Lines:
    """Give what writes the lines of a run: structlog, where the program has configured that."""
    shared: dict[str, object] = {"run_id": run.id, "strategy": run.strategy}
    if run.parent is not None:
        shared |= {"parent_run_id": run.parent.run_id, "parent_key": run.parent.key}
    # Who has configured structlog has imported it; another thread may be about to.
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", None)
    if is_configured is None or not is_configured():
        return JsonLines(logger, shared)
    import structlog  # noqa: PLC0415 - it is slow to import, but has been

    lines: _Lines = structlog.stdlib.get_logger(logger.name).bind(**shared)
    return lines


class _Failures:
    """Log what goes wrong."""

    def __init__(self, run: Run, logger: logging.Logger) -> None:
        self._run = run
        self._logger = logger
        self._made: _Lines | None = None
        self._warnings = 0

    @property
    def log(self) -> _Lines:
        if self._made is None:
            self._made = _lines_of(self._run, self._logger)
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
