"""What Dask workers run for us, each function by its name: so this package must be there too."""

import multiprocessing
import pickle
import threading
from collections import defaultdict, deque
from functools import partial
from typing import Any

from distributed import get_worker, rejoin, secede
from distributed.worker import Worker

import stratagem
from stratagem.remote import (
    Logbook,
    RemoteWorker,
    Session,
    Unfinished,
    logbook_path,
    process_name,
    read_logbook,
    versions,
)

__all__ = ["describe", "farewell", "read_notes", "receive", "run_shipment", "topic_of"]

SMALL = 16_384
"""Bytes up to which answers travel as a message, of which a scheduler keeps the last thousand."""

GATHER_SECONDS = 0.003
"""Seconds in which what is to be told is gathered."""

_lock = threading.Lock()
_workers: dict[tuple[str, str], RemoteWorker] = {}
_left: deque[str] = deque(maxlen=1_000)
_telling = threading.Lock()
_untold: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)


def topic_of(session: str) -> str:
    """Name the topic under which workers tell an owner what they have to say."""
    return f"stratagem-{session}"


def run_shipment(shipment: bytes, number: int, *, session: bytes) -> bytes | None:
    """Run a shipment; tell the owner the answers, or give them back if they are large."""
    worker = get_worker()
    told: Session = pickle.loads(session)  # noqa: S301 - of the owner, who may run code here
    remote_worker = _remote_worker(worker, told)
    if remote_worker is None:
        return None
    answers = remote_worker.run(shipment)
    if len(answers) > SMALL:
        _tell(worker, told.name, ("large", number))
        return answers
    _tell(worker, told.name, ("answered", number, answers))
    return None


def receive(session: str, message: bytes, dask_worker: Worker) -> None:
    """Take a message of the owner."""
    found = _workers.get((session, dask_worker.address))
    if found is not None:
        found.receive(pickle.loads(message))  # noqa: S301 - of the owner, who may run code here


def farewell(session: str, dask_worker: Worker) -> None:
    """Forget an owner; what it still runs here is stopped, without waiting for that."""
    with _lock:
        _left.append(session)
        found = _workers.pop((session, dask_worker.address), None)
    if found is not None:
        threading.Thread(target=found.close, name="stratagem-farewell", daemon=True).start()


def describe(dask_worker: Worker) -> tuple[str, int, dict[str, str]]:
    """Tell who a worker is, how many threads it has, and what must be alike at both ends."""
    return process_name(), dask_worker.state.nthreads, versions()


def read_notes(session: str, worker: str) -> Unfinished | None:
    """Tell what a worker that died on this machine had not told; None where nobody knows."""
    try:
        return read_logbook(logbook_path(session, worker))
    except OSError:
        return None


def _remote_worker(worker: Worker, session: Session) -> RemoteWorker | None:
    """Give what runs the tasks of an owner here; None where that has left, and this comes late."""
    key = session.name, worker.address
    with _lock:
        found = _workers.get(key)
        if found is None and session.name not in _left:
            found = _workers[key] = _made(worker, session)
    return found


def _made(worker: Worker, session: Session) -> RemoteWorker:
    try:
        logbook = Logbook(logbook_path(session.name, worker.address))
    except OSError:  # no room, or no right: who dies here may have begun anything
        logbook = None
    return RemoteWorker(
        session,
        process_name(),
        partial(_tell, worker, session.name),
        for_coroutines=partial(_for_coroutines, session),
        for_processes=partial(_for_processes, worker, session),
        lend=secede,
        reclaim=rejoin,
        logbook=logbook,
    )


def _tell(worker: Worker, session: str, message: tuple[Any, ...]) -> None:
    told = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    with _telling:
        untold = _untold[session, worker.address]
        untold.append(told)
        is_first = len(untold) == 1
    if is_first:
        worker.loop.add_callback(worker.loop.call_later, GATHER_SECONDS, _say, worker, session)


def _say(worker: Worker, session: str) -> None:
    """Tell an owner, in one event, what several tasks have to say: each costs the scheduler."""
    with _telling:
        told = _untold.pop((session, worker.address))
    worker.log_event(topic_of(session), [worker.address, told])


def _for_coroutines(session: Session) -> stratagem.ExecutionStrategy:
    """Make an event loop of our own: the worker's has to answer the scheduler at any time."""
    return stratagem.strategy(f"asyncio(max_concurrency=100_000, grace={session.grace})")


def _for_processes(worker: Worker, session: Session) -> stratagem.ExecutionStrategy:
    # A nanny marks its worker as a daemon, which multiprocessing lets have no children. Ours end
    # with their parent, however that ends.
    multiprocessing.current_process()._config.pop("daemon", None)  # type: ignore[attr-defined]
    most = worker.state.nthreads
    return stratagem.strategy(f"processes(max_workers={most}, grace={session.grace})")
