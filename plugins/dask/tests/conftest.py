"""One cluster for all tests of a worker of pytest: it takes a second or two to start."""

import sys
from pathlib import Path

import pytest

from stratagem_dask.loopback import loopback_cluster

sys.path.append(str(Path(__file__).parent))  # for what several of them have workers do


@pytest.fixture(scope="session")
def cluster():
    with loopback_cluster(threads=2) as running:
        yield running


@pytest.fixture
def stratagem_foreign(cluster):
    return [process.pid for process in (cluster.scheduler, *cluster.workers)]
