"""The strategy itself: its options, what it can do, and the cluster that it holds."""

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from stratagem import Outcome, StreamingStrategy, TaskSource
from stratagem.options import require_count, require_seconds
from stratagem.strategy import stays_here
from stratagem_dask.place import place_of

if TYPE_CHECKING:
    from stratagem.remote import RemoteOwner
    from stratagem_dask.backend import DaskBackend

__all__ = ["DaskStrategy"]

ON_LOST = ("isolate", "fail")


class DaskStrategy(StreamingStrategy):
    """Run tasks on the workers of a Dask cluster, as many at once as these have threads.

    Without an address a cluster is made on this machine, with the first task.
    A coroutine runs on an event loop of its worker and ends at its timeout; any other task that
    has one runs in a process of its own there, which is killed then.

    Args:
        address: the scheduler of a cluster that is there, such as ``tls://host:8786``.
        scheduler_file: the file in which it has written its address.
        client: a ``distributed.Client`` or cluster that has one; another client is made like it.
        tls_ca_file: the certificates that both sides trust, a file.
        tls_cert: the certificate of this side, a file.
        tls_key: its key, a file.
        security: a ``distributed.Security`` in their place.
        insecure: whether an address of another machine may be used without encryption, where
            whoever reaches it may run code.
        n_workers: how many workers are made here; as many as there are usable CPUs by default.
        threads_per_worker: how many tasks each of these runs at once.
        processes: whether these are processes; else they are threads of this one, for tests.
        on_lost: what becomes of a task that was running when its worker died. ``"fail"``: it is
            lost. ``"isolate"``: it runs once more, alone in a process of its own, so that only
            the one that kills its worker is lost.
        ship_modules: modules, or their names, that the workers lack: what they define travels.
        grace: seconds that running tasks get to end when a run is stopped; then they are killed
            where they can be, and else abandoned.
        max_result_bytes: a result that is larger when pickled is an error.
        start_timeout: seconds that the cluster has to answer, with a worker.

    Raises:
        ValueError: an option is out of range, they contradict each other, or an address would
            send code over a network in the clear.
        TypeError: ``ship_modules`` lists something else than modules.
        ImportError: there is no module of such a name here.
    """

    distributed = True
    enforces_timeouts = True
    __reduce__ = stays_here

    def __init__(
        self,
        address: str | None = None,
        *,
        scheduler_file: str | None = None,
        client: Any = None,
        tls_ca_file: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        security: Any = None,
        insecure: bool = False,
        n_workers: int | None = None,
        threads_per_worker: int = 8,
        processes: bool = True,
        on_lost: Literal["isolate", "fail"] = "fail",
        ship_modules: Sequence[ModuleType | str] = (),
        grace: float = 5.0,
        max_result_bytes: int = 67_108_864,
        start_timeout: float = 30.0,
    ) -> None:
        if on_lost not in ON_LOST:
            raise ValueError(f"on_lost must be one of {', '.join(ON_LOST)}, not {on_lost!r}")
        self.grace = require_seconds("grace", grace)
        workers = _usable_cpus() if n_workers is None else n_workers
        self._place = place_of(
            address,
            scheduler_file,
            client,
            tls={"tls_ca_file": tls_ca_file, "tls_cert": tls_cert, "tls_key": tls_key},
            security=security,
            insecure=insecure,
            cluster={
                "n_workers": require_count("n_workers", workers),
                "threads_per_worker": require_count("threads_per_worker", threads_per_worker),
                "processes": processes,
            },
            start_timeout=require_seconds("start_timeout", start_timeout, zero=False),
        )
        self._isolates = on_lost == "isolate" and (processes or bool(self._place.address))
        from stratagem.remote import RemoteOwner  # noqa: PLC0415 - who lists strategies needs none

        self._owner = RemoteOwner(
            self._join,
            grace=grace,
            on_lost=on_lost,
            ship_modules=ship_modules,
            max_result_bytes=require_count("max_result_bytes", max_result_bytes),
        )

        weakref.finalize(self, _close_soon, self._owner).atexit = False

    @property
    def isolates_crashes(self) -> bool:
        """Tell whether a task that kills its worker costs no other: with ``on_lost="isolate"``."""
        return self._isolates

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Send tasks to workers that have room, and yield outcomes as they come back.

        Raises:
            ClusterError: the cluster cannot be reached or made, or was lost on the way.
        """
        return self._owner.stream(tasks)

    def close(self) -> None:
        """Stop the streams that are open, leave the cluster, and end it if it was made here."""
        self._owner.close()

    def _join(self, owner: "RemoteOwner") -> "DaskBackend":
        from stratagem_dask.backend import DaskBackend  # noqa: PLC0415 - Dask is slow to import
        from stratagem_dask.connection import connect  # noqa: PLC0415 - so is what it needs

        return DaskBackend(connect(self._place), owner)


def _close_soon(owner: "RemoteOwner") -> None:
    """Close what a strategy held that nobody holds any more; a garbage collection cannot wait."""
    threading.Thread(target=owner.close, name="stratagem-dask-close", daemon=True).start()


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
