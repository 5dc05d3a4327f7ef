"""The conformance suite that every strategy must pass, over ``dask`` in each of its forms."""

import pytest

from stratagem.testing import StrategyConformance

OPTIONS = {"on_lost": "isolate", "grace": 0.5}
SPECS = {
    "embedded threads": lambda _: (
        "dask(processes=False, n_workers=2, threads_per_worker=2, grace=0.5)"
    ),
    "embedded": lambda _: "dask(n_workers=2, threads_per_worker=2, on_lost='isolate', grace=0.5)",
    "cluster": lambda cluster: cluster.spec(**OPTIONS),
    "retry": lambda cluster: (
        f"retry({cluster.spec(**OPTIONS)}, attempts=2, wait_initial=0.01, wait_jitter=0)"
    ),
}


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def stratagem_spec(request, cluster):
    return request.param(cluster)


class TestDask(StrategyConformance):
    """Run the whole suite."""
