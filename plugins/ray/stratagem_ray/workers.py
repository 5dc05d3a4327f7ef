"""What a process of Ray needs to run tasks of an owner: a worker, its name, its notes."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import ray

import stratagem
from stratagem.remote import (
    Logbook,
    RemoteWorker,
    Session,
    Unfinished,
    logbook_path,
    process_name,
    read_logbook,
)
from stratagem.remote.logbook import PAGES

__all__ = ["new_logbook", "new_worker", "notes_of", "notes_there", "read_notes"]


def new_worker(
    session: Session,
    slots: int,
    send: Callable[[tuple[Any, ...]], None],
    *,
    logbook: Logbook | None = None,
    kills: bool = False,
) -> RemoteWorker:
    """Make what runs the tasks of an owner in this process.

    Args:
        session: what the owner tells.
        slots: how many of them run in processes of their own at once.
        send: sends a message to the owner.
        logbook: where to note what begins and ends; None for nowhere.
        kills: whether every task with a timeout must be killable.
    """
    return RemoteWorker(
        session,
        process_name(),
        send,
        for_coroutines=partial(_lane, f"asyncio(max_concurrency=100_000, grace={session.grace})"),
        for_processes=partial(_lane, f"processes(max_workers={slots}, grace={session.grace})"),
        logbook=logbook,
        kills=kills,
    )


def _lane(spec: str) -> stratagem.ExecutionStrategy:
    return stratagem.strategy(spec)


def new_logbook(session: str, address: str, pages: int = PAGES) -> Logbook | None:
    """Make a logbook; None where there is no room for it, or no right."""
    try:
        return Logbook(logbook_path(session, address), pages)
    except OSError:
        return None


def notes_of(session: str, address: str) -> Unfinished | None:
    """Tell what stands in a logbook on this machine; None where there is none."""
    try:
        return read_logbook(logbook_path(session, address))
    except OSError:
        return None


def read_notes(session: str, address: str) -> bytes:
    """Tell what stands in a logbook on the machine that this runs on."""
    return pickle.dumps(notes_of(session, address), pickle.HIGHEST_PROTOCOL)


notes_there: Any = cast("Any", ray.remote)(num_cpus=0, max_retries=0)(read_notes)
