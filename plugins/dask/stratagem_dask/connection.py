"""A cluster to run on: one that is there, or one that is made on this machine."""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from importlib import import_module
from typing import Any

from stratagem import ClusterError
from stratagem_dask.place import Place
from stratagem_dask.shield import interrupts_held

__all__ = ["Connection", "connect"]

LOOK_UP = 0.5
"""Seconds after which the main thread looks up from its wait, for a signal that struck before."""

_LOOPBACK_HTTP = "127.0.0.1:0"


class Connection:
    """Be the client of a cluster, and the cluster itself where it is ours.

    Args:
        place: which one.

    Attributes:
        client: the client.
        address: where the scheduler is.
        start_timeout: seconds in which there must be a worker.

    Raises:
        ClusterError: it cannot be reached, or made.
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
        self.start_timeout = place.start_timeout
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
        except Exception as error:
            self.close()
            raise self._unusable(place, error) from error

    def _unusable(self, place: Place, error: Exception) -> ClusterError:
        where = f"at {place.address}" if place.address else "made here"
        own_processes = not place.address and place.cluster["processes"]
        guard = '; a script needs `if __name__ == "__main__":` around what it runs' * own_processes
        return ClusterError(f"the Dask cluster {where} cannot be used: {error}{guard}")

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
        ClusterError: it cannot be reached, or made.
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
