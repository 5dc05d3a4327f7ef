"""One cluster for all tests of a worker of pytest: it takes a second or two to start."""

import pytest
from stratagem_dask.loopback import loopback_cluster


@pytest.fixture(scope="session")
def cluster():
    with loopback_cluster(threads=2) as running:
        yield running


@pytest.fixture
def stratagem_foreign(cluster):
    return [process.pid for process in (cluster.scheduler, *cluster.workers)]
