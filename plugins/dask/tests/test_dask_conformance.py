"""The conformance suite that every strategy must pass, over ``dask`` in each of its forms."""

from functools import partial

import pytest

from stratagem.testing import StrategyConformance
from stratagem.testing.conformance import Residue

OPTIONS = {"on_lost": "isolate", "grace": 0.5}
EMBEDDED = {
    "embedded threads": "dask(processes=False, n_workers=2, threads_per_worker=2, grace=0.5)",
    "embedded": "dask(n_workers=2, threads_per_worker=2, on_lost='isolate', grace=0.5)",
}
ON_CLUSTER = {
    "cluster": "{}",
    "retry": "retry({}, attempts=2, wait_initial=0.01, wait_jitter=0)",
}


@pytest.fixture(params=ON_CLUSTER.values(), ids=ON_CLUSTER)
def on_cluster(request, cluster):
    return request.param.format(cluster.spec(**OPTIONS))


@pytest.fixture(params=EMBEDDED.values(), ids=EMBEDDED)
def embedded(request):
    return request.param


class TestOnCluster(StrategyConformance):
    """Run the whole suite."""

    @pytest.fixture
    def stratagem_spec(self, on_cluster):
        return on_cluster


class TestEmbedded(StrategyConformance):
    """Run it on clusters that stay for all of it: to make one takes a second."""

    test_leaves_no_thread_process_or_descriptor_behind = None
    test_a_strategy_that_never_ran_leaves_nothing_behind = None

    @pytest.fixture
    def stratagem_spec(self, embedded, lend):
        return partial(lend, embedded)


class TestEmbeddedResidue(Residue):
    """Run what is about closing on clusters that are closed."""

    @pytest.fixture
    def stratagem_spec(self, embedded):
        return embedded
