"""A small Dask cluster on loopback addresses, with mutual TLS: for tests and trials.

``python -m stratagem_dask.loopback`` starts one and says how to use it, until it is interrupted.
It needs ``trustme``: ``pip install "stratagem-dask[loopback]"``.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

__all__ = ["LoopbackCluster", "loopback_cluster", "main"]

HOSTS = ("127.0.0.2", "127.0.0.3")
START_SECONDS = 30.0
POLL = 0.01


@attrs.frozen
class LoopbackCluster:
    """Hold a cluster that runs.

    Attributes:
        address: the address of its scheduler.
        tls_ca_file: the certificate of who signs for both sides.
        tls_cert: the certificate of either side.
        tls_key: its key.
        scheduler: the process of its scheduler.
        workers: the processes of its workers; each is the nanny of one.
    """

    address: str
    tls_ca_file: Path
    tls_cert: Path
    tls_key: Path
    scheduler: "subprocess.Popen[bytes]"
    workers: tuple["subprocess.Popen[bytes]", ...]

    def spec(self, **options: object) -> str:
        """Give the spec of ``dask`` on this cluster.

        Args:
            options: further options of it.
        """
        given = {
            "address": self.address,
            "tls_ca_file": str(self.tls_ca_file),
            "tls_cert": str(self.tls_cert),
            "tls_key": str(self.tls_key),
        } | options
        return f"dask({', '.join(f'{name}={value!r}' for name, value in given.items())})"


@contextmanager
def loopback_cluster(
    *, hosts: tuple[str, ...] = HOSTS, threads: int = 4
) -> Iterator[LoopbackCluster]:
    """Run a cluster of one scheduler, on 127.0.0.1, and a worker on each of ``hosts``.

    Args:
        hosts: loopback addresses, one a worker.
        threads: how many tasks each worker runs at once.

    Raises:
        ImportError: ``trustme`` is not installed.
        TimeoutError: the scheduler did not start in time; what it said stands on stderr.
    """
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="stratagem-dask-") as place:
        home = Path(place)
        tls = _certificates(home, ("127.0.0.1", *hosts))
        file = home / "scheduler.json"
        known = ["--scheduler-file", str(file), *tls]
        try:
            started.append(_start("scheduler", "--host", "tls://127.0.0.1", "--port", "0", *known))
            rest = ("--nthreads", str(threads), "--death-timeout", "20", *known)
            scratch = ("--local-directory", place)
            started += [
                _start("worker", "--host", f"tls://{host}", *scratch, *rest) for host in hosts
            ]
            yield LoopbackCluster(
                _address(file, started[0]),
                home / "ca.pem",
                home / "cert.pem",
                home / "key.pem",
                started[0],
                tuple(started[1:]),
            )
        finally:
            for process in started:
                _kill(process)


def _certificates(home: Path, hosts: tuple[str, ...]) -> list[str]:
    """Write an authority, and one certificate for all hosts; give the options that name them."""
    trustme: Any = import_module("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert(*hosts)
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(home / "cert.pem"))
    issued.private_key_pem.write_to_path(str(home / "key.pem"))
    (home / "key.pem").chmod(0o600)
    names = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}
    return [part for option, name in names.items() for part in (option, str(home / name))]


def _start(role: str, *options: str) -> "subprocess.Popen[bytes]":
    # Without an address even the web server that has no dashboard listens to all hosts.
    web = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *options, *web]
    environment = os.environ | {"DASK_LOGGING__DISTRIBUTED": "critical"}
    return subprocess.Popen(  # noqa: S603 - our own words
        command, start_new_session=True, stdout=subprocess.DEVNULL, env=environment
    )


def _address(file: Path, scheduler: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and scheduler.poll() is None:
        with suppress(OSError, ValueError):  # it is not there yet, or not whole
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        time.sleep(POLL)
    raise TimeoutError("the scheduler of the loopback cluster did not start")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Run a cluster until Ctrl-C or SIGTERM, and say how to use it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), loopback_cluster() as cluster:
        sys.stdout.write(f"a cluster of {len(cluster.workers)} workers runs; use it with\n\n")
        sys.stdout.write(f'    -s "{cluster.spec()}"\n\nCtrl-C ends it\n')
        sys.stdout.flush()
        cluster.scheduler.wait()


if __name__ == "__main__":
    main()
