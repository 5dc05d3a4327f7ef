"""A cluster to run on: one that is there, or one that is made on this machine."""

import json
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from stratagem import ClusterError
from stratagem_dask.shield import interrupts_held

__all__ = ["Connection", "Place", "connect", "place_of"]

LOOK_UP = 0.5
"""Seconds after which the main thread looks up from its wait, for a signal that struck before."""

_SAFE_SCHEMES = {"tls", "inproc", "wss"}
_LOOPBACK_HTTP = "127.0.0.1:0"
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


class Connection:
    """Be the client of a cluster, and the cluster itself where it is ours.

    Args:
        place: which one.

    Raises:
        ClusterError: it cannot be reached, or made, or has no worker in time.
    """

    def __init__(self, place: Place) -> None:
        dask: Any = import_module("distributed")  # slow to import
        self.client: Any = None
        self._cluster: Any = None
        security = place.security
        if security is None and place.tls:
            security = _security(dask.Security, place.tls)
        options: dict[str, Any] = {} if security is None else {"security": security}
        self.address = place.address
        processes = bool(place.cluster["processes"])
        try:
            if not place.address:
                self._cluster = dask.LocalCluster(
                    dashboard_address=None,
                    # Without an address the web server listens at one that all hosts reach.
                    scheduler_kwargs={"dashboard_address": _LOOPBACK_HTTP},
                    worker_dashboard_address=None if processes else _LOOPBACK_HTTP,
                    host="127.0.0.1" if processes else None,
                    silence_logs=logging.CRITICAL,
                    **({"preload": ["stratagem_dask.shield"]} if processes else {}),
                    **place.cluster,
                )
                self.address = self._cluster.scheduler_address
            self.client = dask.Client(
                self.address, timeout=place.start_timeout, set_as_default=False, **options
            )
            self.client.wait_for_workers(1, timeout=place.start_timeout)
        except Exception as error:
            self.close()
            raise self._unusable(place, error) from error

    def _unusable(self, place: Place, error: Exception) -> ClusterError:
        where = f"at {place.address}" if place.address else "made here"
        if isinstance(error, TimeoutError) and self.client is not None:
            return ClusterError(
                f"the Dask cluster {where} has no worker after {place.start_timeout:g} s; "
                "start one, or allow more time with start_timeout"
            )
        return ClusterError(f"the Dask cluster {where} cannot be used: {error}")

    def close(self) -> None:
        """Leave the cluster; end it if it is ours."""
        if self.client is not None:
            self.client.close()
        if self._cluster is not None:
            self._cluster.close()


def connect(place: Place) -> Connection:
    """Reach a cluster, or make one.

    It happens in a thread where no interrupt strikes: a cluster that is half made when one does
    would be left behind, and workers that start just then would fail of it. One that strikes who
    waits here ends the cluster again.

    Raises:
        ClusterError: it cannot be reached, or made, or has no worker in time.
    """
    made: Future[Connection] = Future()

    def make() -> None:
        try:
            with interrupts_held():
                made.set_result(Connection(place))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            made.set_exception(error)

    threading.Thread(target=make, name="stratagem-dask-connect", daemon=True).start()
    try:
        while not wait([made], LOOK_UP).done:
            pass
    except BaseException:
        wait([made])
        if made.exception() is None:
            made.result().close()
        raise
    return made.result()


def _security(security: Any, tls: Mapping[str, str]) -> Any:
    """Make a ``Security`` of the names of files."""
    return security(
        require_encryption=True,
        tls_ca_file=tls.get("tls_ca_file"),
        tls_client_cert=tls.get("tls_cert"),
        tls_client_key=tls.get("tls_key"),
    )


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
    try:
        return str(json.loads(Path(scheduler_file).read_text(encoding="utf-8"))["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{scheduler_file} is no scheduler file of Dask: {error}") from error


def _refuse_open(address: str, *, insecure: bool) -> None:
    """Refuse to send code and values over a network in the clear.

    Raises:
        ValueError: the address names such a way, or is none.
    """
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
