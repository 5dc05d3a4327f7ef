"""What a task may change around it that the next one would find: directory, environment, umask.

The functions of ``os`` that change them take note in a worker; tasks that call none cost nothing.
An audit hook would see the same, but costs half as much again for all that calls ``id``.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

__all__ = ["Surroundings"]

CHANGING = ("chdir", "fchdir", "putenv", "unsetenv", "umask")
PRIVATE = 0o077


class Surroundings:
    """Put back what a task changed.

    Attributes:
        touched: whether there may be something to put back.
    """

    def __init__(self) -> None:
        self.touched = False
        self._set: set[str] = set()
        self._do: dict[str, Callable[..., Any]] = {}

    def watch(self) -> None:
        """Take what there is now for what it should be, and note from now on what changes it."""
        self._directory = None
        with suppress(OSError):
            self._directory = os.getcwd()  # noqa: PTH109 - chdir wants it back
        self._environment = dict(os.environ)
        self._umask = os.umask(PRIVATE)
        os.umask(self._umask)
        for name in CHANGING:
            if hasattr(os, name):
                self._do[name] = getattr(os, name)
                setattr(os, name, self._noting(self._do[name]))

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def noting(*arguments: Any, **options: Any) -> Any:
            self.touched = True
            if function.__name__ in {"putenv", "unsetenv"}:
                self._set.update(map(os.fsdecode, arguments[:1]))
            return function(*arguments, **options)

        noting.__module__ = "os"  # so that it pickles as what it stands for
        if function in os.supports_fd:
            os.supports_fd.add(noting)
        return noting

    def restore(self) -> None:
        """Put back what was noted."""
        for name in self._set:
            if name in self._environment:
                os.environ[name] = self._environment[name]
            else:
                os.environ.pop(name, None)
                self._do["unsetenv"](os.fsencode(name) if os.name == "posix" else name)
        self._set.clear()
        self._do["umask"](self._umask)
        if self._directory is not None:
            with suppress(OSError):  # it is gone
                self._do["chdir"](self._directory)
        self.touched = False
