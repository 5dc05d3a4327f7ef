"""The Ray that is used: the one that this program has, one at an address, or one started here."""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from stratagem import ClusterError
from stratagem_ray.place import Place, Size, has_token

__all__ = ["Connection"]

_LONGEST = 40
"""Characters of a directory in which the names of Ray's sockets are not too long for a system."""


@attrs.define
class _Use:
    """Count who uses the Ray that we have joined or started: a program has one.

    Attributes:
        users: how many connections.
        directory: what it has written into, if it was started here.
    """

    users: int = 0
    directory: Path | None = None


_use = _Use()
_joining = threading.RLock()


class Connection:
    """Be a use of the Ray of this program; with the last of them, what was joined is left.

    Args:
        place: which cluster.
        size: how much of it.

    Attributes:
        size: what was given.
        node: the id of the node that this program is on.
        head: host and port of the head.

    Raises:
        ClusterError: it cannot be reached, or started.
    """

    def __init__(self, place: Place, size: Size) -> None:
        self.size = size
        self._open = True
        with _joining:
            _prepare(place)
            ray: Any = import_module("ray")  # slow to import, and reads what was prepared
            was_there = ray.is_initialized()
            if not was_there:
                self._join(ray, place)
            context = ray.get_runtime_context()
            self.node: str = context.get_node_id()
            self.head: str = context.gcs_address
            if was_there and place.address not in {"", "auto", self.head}:
                raise ClusterError(
                    f"this program has joined Ray at {self.head} already, and can have only one; "
                    f"leave that first, or leave out the address {place.address}"
                )
            self._ours = _use.users > 0 or not was_there
            _use.users += self._ours

    def _join(self, ray: Any, place: Place) -> None:
        options: dict[str, Any] = {"address": place.address}
        if not place.address:
            _use.directory = _new_directory()
            options = _local(_use.directory, _cpus_for(self.size))
        try:
            with _signals_kept():
                ray.init(
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level="ERROR",
                    **options,
                )
        except Exception as error:
            _leave(ray)
            where = f"at {place.address} cannot be joined" if place.address else "cannot be started"
            raise ClusterError(f"Ray {where}: {error}") from error

    def cpus(self) -> float:
        """Tell how many CPUs the cluster has."""
        ray: Any = import_module("ray")
        return float(ray.cluster_resources().get("CPU", 0.0))

    def is_open(self) -> bool:
        """Tell whether this program is still in the cluster."""
        ray: Any = import_module("ray")
        return bool(ray.is_initialized())

    def is_alive(self) -> bool:
        """Tell whether the head answers; it may take seconds to say no."""
        if not self.is_open():
            return False
        host, _, port = self.head.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
                return True
        except OSError:
            return False

    def close(self) -> None:
        """Leave Ray, unless others use it; end it if it was started here."""
        ray: Any = import_module("ray")
        with _joining:
            was_open, self._open = self._open, False
            if not (was_open and self._ours):
                return
            _use.users -= 1
            if not _use.users:
                with _signals_kept():
                    _leave(ray)


def _leave(ray: Any) -> None:
    with suppress(Exception):  # what was not joined need not be left
        ray.shutdown()
    directory, _use.directory = _use.directory, None
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


def _prepare(place: Place) -> None:
    """Set what Ray reads of the environment, so that only who has a token can use what we start."""
    if place.address:
        return
    if "ray" not in sys.modules:  # else it has read this, and asks for a token by default
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and not has_token():
        # Else Ray writes one to a file. It stays for the next Ray that we start, since a program
        # reads it once.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _local(directory: Path, cpus: int) -> dict[str, Any]:
    """Give the options for a Ray of our own, for which nobody has to look."""
    options: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "_temp_dir": str(directory),
        # What each task was and when is told to the head, where it stays.
        "_system_config": {"task_events_report_interval_ms": 0},
    }
    if sys.platform == "linux":  # in the place of 127.0.0.1 Ray takes the address of a network
        options["_node_ip_address"] = "127.0.0.2"
    return options


def _new_directory() -> Path:
    base = tempfile.gettempdir()
    return Path(
        tempfile.mkdtemp(prefix="stratagem-ray-", dir="/tmp" if len(base) > _LONGEST else None)  # noqa: S108 - a new one
    )


def _cpus_for(size: Size) -> int:
    if size.n_workers is not None and size.num_cpus:
        return max(1, round(size.n_workers * size.num_cpus))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what the program does on SIGTERM, which Ray would replace."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and before is not None and signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
