"""How a worker gets ready: everything that may go wrong before its first task, seen and told."""

import faulthandler
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stratagem.transport import safe_str
from stratagem_builtin.program import import_main
from stratagem_builtin.words import STDERR, LastWords

__all__ = ["Preparation", "get_ready"]

Preparation = tuple[str, Callable[[], Any]]
"""What is done, for people, and what does it."""

LAST_MOMENTS = 0.1


def get_ready(
    words: LastWords,
    preparations: list[Preparation],
    ready_by: float,
    tell: Callable[[str, str], None],
) -> None:
    """Make the preparations one after another; if one fails, tell of it and exit.

    Args:
        words: where stderr goes meanwhile.
        preparations: what is to be done.
        ready_by: when the parent will kill, in ``time.monotonic()``;
            shortly before, the stack of what still goes on is written to ``words``.
        tell: called with the problem and the traceback, as text.
    """
    with words.hearing():
        left = ready_by - time.monotonic()
        if words.descriptor >= 0:
            faulthandler.dump_traceback_later(
                max((1 - LAST_MOMENTS) * left, 0.001), file=words.descriptor
            )
        for what, prepare in preparations:
            try:
                prepare()
            except BaseException as error:  # noqa: BLE001 - whatever user code raises
                _give_up(what, error, tell)
        faulthandler.cancel_dump_traceback_later()
    if words.descriptor >= 0:
        faulthandler.enable(words.descriptor, all_threads=False)


def _give_up(what: str, error: BaseException, tell: Callable[[str, str], None]) -> None:
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):  # stderr is closed
        os.write(STDERR, text.encode(errors="replace"))
    tell(f"{what} raised {type(error).__name__}: {safe_str(error).strip()}", text)
    os._exit(1)


def preparation_of_main(described: dict[str, str]) -> Preparation:
    """Give the preparation that imports the program."""
    name = next(iter(described.values()), "")
    return f"importing {name} as __main__", lambda: import_main(described)
