"""The strategy itself: its options, what it can do, and the Ray that it uses."""

import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from stratagem import Outcome, StreamingStrategy, TaskSource
from stratagem.options import require_count, require_seconds
from stratagem.strategy import stays_here
from stratagem_ray.place import Size, place_of

if TYPE_CHECKING:
    from stratagem.remote import RemoteOwner
    from stratagem_ray.backend import RayBackend

__all__ = ["RayStrategy"]

MODES = ("actors", "tasks")
ON_LOST = ("isolate", "fail")


class RayStrategy(StreamingStrategy):
    """Run tasks by Ray: many at once in each of a few actors, or one at once in each process.

    With ``mode="actors"``, for what waits more than it computes, coroutines run on an event loop
    of their actor and plain functions in its threads. A coroutine ends at its timeout; any other
    task that has one runs in a process of its own beside the actor, which is killed then.

    With ``mode="tasks"``, for what computes or cannot be trusted, Ray gives each task a process to
    itself. A task that crashes costs no other, and any task can be killed.

    Ray is used as this program has it. Where it has none yet, it joins the cluster at ``address``,
    or starts Ray on this machine, with the first task.

    Args:
        address: the cluster to join, ``host:port`` or ``"auto"``.
        mode: ``"actors"`` or ``"tasks"``.
        n_workers: how many actors, or how many tasks at once; as many as the cluster has room for
            by default, or as there are usable CPUs where Ray is started here.
        max_concurrency: how many tasks each actor runs at once.
        num_cpus: the CPUs that Ray reserves for each actor, by default 0, or for each task, by
            default 1.
        on_lost: what becomes of a task that was running when its process died. ``"fail"``: it is
            lost. ``"isolate"``: it runs once more, alone in a process of its own, so that only
            the one that kills its actor is lost.
        ship_modules: modules, or their names, that the workers lack: what they define travels.
        grace: seconds that running tasks get to end when a run is stopped; then they are killed
            where they can be, and else abandoned.
        max_result_bytes: a result that is larger when pickled is an error.
        start_timeout: seconds that the cluster has to answer, with a worker.
        insecure: whether an address of another machine may be used with neither tokens nor TLS,
            where whoever reaches it may run code.

    Raises:
        ValueError: an option is out of range, or does not go with the mode, or the address is open
            to anybody.
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
        mode: Literal["actors", "tasks"] = "actors",
        n_workers: int | None = None,
        max_concurrency: int = 64,
        num_cpus: float | None = None,
        on_lost: Literal["isolate", "fail"] = "fail",
        ship_modules: Sequence[ModuleType | str] = (),
        grace: float = 5.0,
        max_result_bytes: int = 67_108_864,
        start_timeout: float = 60.0,
        insecure: bool = False,
    ) -> None:
        _require_one_of("mode", mode, MODES)
        _require_one_of("on_lost", on_lost, ON_LOST)
        self.grace = require_seconds("grace", grace)
        self._runs_tasks = mode == "tasks"
        self._isolates = self._runs_tasks or on_lost == "isolate"
        self._size = Size(
            None if n_workers is None else require_count("n_workers", n_workers),
            require_count("max_concurrency", max_concurrency),
            _cpus(num_cpus, mode),
            require_seconds("start_timeout", start_timeout, zero=False),
        )
        self._place = place_of(address, insecure=insecure)
        from stratagem.remote import RemoteOwner  # noqa: PLC0415 - who lists strategies needs none

        self._owner = RemoteOwner(
            self._join,
            grace=grace,
            on_lost=on_lost,
            ship_modules=ship_modules,
            max_result_bytes=require_count("max_result_bytes", max_result_bytes),
            kills=self._runs_tasks,
        )

    @property
    def can_kill(self) -> bool:
        """Tell whether a running task can be killed: with ``mode="tasks"``."""
        return self._runs_tasks

    @property
    def isolates_crashes(self) -> bool:
        """Tell whether a task that kills its process costs no other.

        It is so with ``mode="tasks"``, and with ``on_lost="isolate"``.
        """
        return self._isolates

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Send tasks to where there is room, and yield outcomes as they come back.

        Raises:
            ClusterError: Ray cannot be reached or started, or was lost on the way.
        """
        return self._owner.stream(tasks)

    def close(self) -> None:
        """Stop the streams that are open, and leave Ray; end it if it was started here."""
        self._owner.close()

    def _join(self, owner: "RemoteOwner") -> "RayBackend":
        # Ray is slow to import, and what it lets others do is asked of the environment then.
        from stratagem_ray.connection import Connection  # noqa: PLC0415

        connection = Connection(self._place, self._size)
        if self._runs_tasks:
            from stratagem_ray.tasks import TaskBackend  # noqa: PLC0415

            return TaskBackend(connection, owner)
        from stratagem_ray.actors import ActorBackend  # noqa: PLC0415

        return ActorBackend(connection, owner)


def _require_one_of(option: str, given: object, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{option} must be one of {', '.join(known)}, not {given!r}")


def _cpus(given: float | None, mode: str) -> float:
    if given is None:
        return 1.0 if mode == "tasks" else 0.0
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not math.isfinite(given) or given < 0 or (mode == "tasks" and not given):
        least = "more than 0" if mode == "tasks" else "at least 0"
        raise ValueError(f"num_cpus must be a number, {least} with mode={mode!r}, not {given!r}")
    return float(given)
