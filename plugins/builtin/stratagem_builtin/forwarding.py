"""Log records of worker processes, on their way to the handlers of the parent."""

import logging
from collections.abc import Callable
from typing import Any

from stratagem import current_task

__all__ = ["forward_logs", "replay"]


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
        task = current_task()
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
            "stratagem_run_id": "" if task is None else task.run_id,
            "stratagem_task_key": "" if task is None else task.key,
        }
        if record.exc_info:
            fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
        self._send("log", fields)
