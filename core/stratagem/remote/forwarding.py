"""Log records of workers, on their way to the handlers of the process that owns the run."""

import logging
from collections.abc import Callable, Container
from typing import Any

from stratagem.scope import current_task

__all__ = ["LogForwarding", "forward_logs", "replay"]


def forward_logs(send: Callable[..., None], level: int, own_level: int) -> None:
    """Have what is logged in this worker sent to the parent.

    Args:
        send: sends a message to the parent, from any thread.
        level: what is logged below it stays.
        own_level: the same for the logger ``stratagem``.
    """
    root = logging.getLogger()
    root.addHandler(_Forwarding(send))
    root.setLevel(level)
    logging.getLogger("stratagem").setLevel(own_level)


class LogForwarding:
    """Send what tasks log in a worker to the owner of their runs, and nothing else.

    Args:
        send: sends a message to the owner, from any thread.
        level: what is logged below it stays.
        run_ids: the ids of the runs of that owner.
    """

    def __init__(self, send: Callable[..., None], level: int, run_ids: Container[str]) -> None:
        self._handler = _Forwarding(send)
        self._handler.setLevel(level)
        self._handler.addFilter(lambda record: _logged_by(record)[0] in run_ids)
        self._level_before: int | None = None

    def begin(self) -> None:
        """Begin; a root logger that would stop such records is opened for them."""
        root = logging.getLogger()
        root.addHandler(self._handler)
        if root.level > self._handler.level > logging.NOTSET:
            self._level_before = root.level
            root.setLevel(self._handler.level)

    def end(self) -> None:
        """End, and leave the root logger as it was."""
        root = logging.getLogger()
        root.removeHandler(self._handler)
        if self._level_before is not None:
            root.setLevel(self._level_before)


def replay(fields: dict[str, Any]) -> None:
    """Log, in the parent, what a worker has sent."""
    logger = logging.getLogger(fields["name"])
    if logger.isEnabledFor(fields["levelno"]):
        logger.handle(logging.makeLogRecord(fields))


class _Forwarding(logging.Handler):
    """Send log records to the parent, each with the run id and task key it was logged under."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        run_id, key = _logged_by(record)
        fields = {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": record.getMessage(),
            "created": record.created,
            "pathname": record.pathname,
            "lineno": record.lineno,
            "funcName": record.funcName,
            "process": record.process,
            "stratagem_run_id": run_id,
            "stratagem_task_key": key,
        }
        if record.exc_info:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        elif record.exc_text:
            fields["exc_text"] = record.exc_text
        self._send("log", fields)


def _logged_by(record: logging.LogRecord) -> tuple[str, str]:
    """Give the ids of run and task that logged: here, or in a process that sent the record here."""
    if hasattr(record, "stratagem_run_id"):
        return record.stratagem_run_id, record.stratagem_task_key  # type: ignore[attr-defined]
    task = current_task()
    return ("", "") if task is None else (task.run_id, task.key)
