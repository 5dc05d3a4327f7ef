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

__all__ = ["Connection", "Place", "Size", "place_of"]

_LOOPBACK = ("127.", "localhost:", "[::1]:")
_LONGEST = 40
"""Characters of a directory in which the names of Ray's sockets are not too long for a system."""


@attrs.frozen
class Place:
    """Say which cluster is meant.

    Attributes:
        address: where it is; ``""`` for one started here.
        insecure: whether it may be open to anybody.
    """

    address: str
    insecure: bool


@attrs.frozen
class Size:
    """Say how much of a cluster is used.

    Attributes:
        n_workers: how many actors, or tasks at once; None for as many as there is room for.
        max_concurrency: how many tasks an actor runs at once.
        num_cpus: the CPUs that Ray reserves for an actor, or a task.
        start_timeout: seconds that the cluster has to answer, with a worker.
    """

    n_workers: int | None
    max_concurrency: int
    num_cpus: float
    start_timeout: float


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
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and not _has_token():
        # Else Ray writes one to a file. It stays for the next Ray that we start, since a program
        # reads it once.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _has_token() -> bool:
    return bool(os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"))


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


def place_of(address: str | None, *, insecure: bool) -> Place:
    """Say which cluster is meant by options of ``ray``.

    Raises:
        ValueError: the address is none, or anybody may run code there.
    """
    if address is None:
        return Place("", insecure)
    if "://" in address or not (address == "auto" or address.rpartition(":")[2].isdecimal()):
        raise ValueError(
            f"{address!r} is no address of a cluster; give host:port of its head, or 'auto'"
        )
    if not (insecure or address.startswith(_LOOPBACK) or _is_guarded()):
        raise ValueError(
            f"who reaches the Ray at {address} may run code there; set RAY_AUTH_MODE=token and its "
            "RAY_AUTH_TOKEN, or RAY_USE_TLS=1, in the environment, or say insecure=True"
        )
    return Place(address, insecure)


def _is_guarded() -> bool:
    """Tell whether Ray, as the environment has it, uses TLS or asks for a token."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}:
        return True
    has_token = _has_token() or Path("~/.ray/auth_token").expanduser().exists()
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and has_token
