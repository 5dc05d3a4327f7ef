"""What a strategy on somebody else's engine is built of: a cluster, a queue, a pool of machines.

The engine carries shipments, which are bytes, to workers, and answers back. To join one,
give a ``RemoteOwner`` a ``Backend`` that does so, have each worker keep a ``RemoteWorker`` and run
shipments by it, and let both send each other messages. One outcome for each task, batches,
back-pressure, timeouts, cancellation, nested runs, budgets, log lines and the loss of workers come
from here and are the same on every engine.

Lowest first: ``shipments``, ``packing``, ``logbook``, then ``children``, ``places``,
``forwarding``, ``seat``, ``lane`` and ``worker``, which is what lives in a worker; ``nests``,
``delivery``, ``stream`` and ``owner``, which is what lives with the caller.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratagem.remote.delivery import Backend, Death, Delivery
    from stratagem.remote.logbook import Logbook, Unfinished, logbook_path, read_logbook
    from stratagem.remote.owner import OnLost, RemoteOwner
    from stratagem.remote.worker import RemoteWorker, Session, process_name, versions

__all__ = [
    "Backend",
    "Death",
    "Delivery",
    "Logbook",
    "OnLost",
    "RemoteOwner",
    "RemoteWorker",
    "Session",
    "Unfinished",
    "logbook_path",
    "process_name",
    "read_logbook",
    "versions",
]

_HOMES = {
    "Backend": "delivery",
    "Death": "delivery",
    "Delivery": "delivery",
    "Logbook": "logbook",
    "OnLost": "owner",
    "RemoteOwner": "owner",
    "RemoteWorker": "worker",
    "Session": "worker",
    "Unfinished": "logbook",
    "logbook_path": "logbook",
    "process_name": "worker",
    "read_logbook": "logbook",
    "versions": "worker",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: what is here for workers need not be."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
