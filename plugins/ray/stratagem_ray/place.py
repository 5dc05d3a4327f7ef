"""Which cluster is meant, and how much of it; nothing here is slow to import."""

import os
from pathlib import Path

import attrs

__all__ = ["Place", "Size", "has_token", "place_of"]

_LOOPBACK = ("127.", "localhost:", "[::1]:")


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


def has_token() -> bool:
    """Tell whether the environment has a token for Ray, or names the file of one."""
    return bool(os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"))


def _is_guarded() -> bool:
    """Tell whether Ray, as the environment has it, uses TLS or asks for a token."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}:
        return True
    is_there = has_token() or Path("~/.ray/auth_token").expanduser().exists()
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and is_there
