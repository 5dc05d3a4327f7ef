"""Which cluster is meant, by options that must not contradict each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Place", "place_of"]

_SAFE_SCHEMES = {"tls", "inproc", "wss"}
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


@attrs.frozen
class Place:
    """Say which cluster is meant.

    Attributes:
        address: where its scheduler is; ``""`` for a cluster made here.
        tls: options of ``distributed.Security`` by name: ``tls_ca_file`` and so on.
        security: a ``distributed.Security`` that is used as it is; None for one made of ``tls``.
        cluster: options of ``distributed.LocalCluster`` for one made here.
        start_timeout: seconds that it has to answer, with a worker.
    """

    address: str
    tls: Mapping[str, str]
    security: Any
    cluster: Mapping[str, Any]
    start_timeout: float


def place_of(
    address: str | None,
    scheduler_file: str | None,
    client: Any,
    *,
    tls: Mapping[str, str | None],
    security: Any,
    insecure: bool,
    cluster: Mapping[str, Any],
    start_timeout: float,
) -> Place:
    """Say which cluster is meant by options of ``dask``.

    Raises:
        ValueError: they contradict each other, or name a way that anybody could listen to.
        OSError: the scheduler file cannot be read.
    """
    given = [
        name
        for name, value in (
            ("address", address),
            ("scheduler_file", scheduler_file),
            ("client", client),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} name a cluster; give one of them")
    files = {name: value for name, value in tls.items() if value is not None}
    if scheduler_file is not None:
        address = _address_in(scheduler_file)
    if client is not None:
        address = client.scheduler.address
        security = client.security if security is None else security
    elif address is not None:
        _refuse_open(address, insecure=insecure)
    if address is not None and address.startswith("tls://") and not files and security is None:
        raise ValueError(f"{address} needs tls_ca_file, tls_cert and tls_key, or security")
    return Place(address or "", files, security, dict(cluster), start_timeout)


def _address_in(scheduler_file: str) -> str:
    import json  # noqa: PLC0415 - here alone

    try:
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{scheduler_file} is no scheduler file of Dask: {error}") from error


def _refuse_open(address: str, *, insecure: bool) -> None:
    """Refuse to send code and values over a network in the clear.

    Raises:
        ValueError: the address names such a way, or is none.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - here alone

    if "://" not in address:
        address = f"tcp://{address}"
    parts = urlsplit(address)
    if not parts.hostname and parts.scheme != "inproc":
        raise ValueError(f"{address!r} is no address of a scheduler, such as tls://host:8786")
    host = parts.hostname or ""
    if parts.scheme in _SAFE_SCHEMES or host.startswith(_LOOPBACK) or insecure:
        return
    raise ValueError(
        f"{address} is not encrypted, and who reaches it may run code there; "
        "use tls:// with tls_ca_file, tls_cert and tls_key, or say insecure=True"
    )
