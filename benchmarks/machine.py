"""Where and when figures were taken."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import attrs

PACKAGES = [
    "stratagem",
    "joblib",
    "loky",
    "mpire",
    "pebble",
    "aiometer",
    "dbos",
    "langchain-core",
    "httpx",
    "distributed",
    "ray",
    "pluggy",
    "structlog",
]


@attrs.frozen
class Machine:
    """Hold what figures depend on."""

    date: str
    processors: int
    load: float
    python: str
    system: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        """Say it in a line."""
        return ", ".join(
            [
                self.date,
                f"{self.processors} CPUs",
                f"load {self.load:.1f}",
                self.python,
                self.system,
                *(f"{name} {number}" for name, number in self.versions.items()),
            ]
        )


def this_machine() -> Machine:
    """Look at this machine, now."""
    return Machine(
        datetime.now(UTC).date().isoformat(),
        _processors(),
        os.getloadavg()[0],
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.machine()}",
        {name: _version(name) for name in PACKAGES},
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
