"""The conformance suite that every strategy must pass, over both modes of ``ray``."""

from functools import partial

import pytest

from stratagem.testing import StrategyConformance
from stratagem.testing.conformance import Residue

SPECS = {
    "actors": "ray(n_workers=1, max_concurrency=8, on_lost='isolate', grace=0.5)",
    "tasks": "ray(mode='tasks', grace=0.5)",
}


@pytest.fixture(params=SPECS.values(), ids=SPECS, scope="session")
def spec(request):
    return request.param


@pytest.fixture
def stratagem_spec(spec, lend):
    return partial(lend, spec)


class TestRay(StrategyConformance):
    """Run the whole suite."""

    test_leaves_no_thread_process_or_descriptor_behind = None
    test_a_strategy_that_never_ran_leaves_nothing_behind = None


class TestRayResidue(Residue):
    """Run what is about closing on a strategy that is closed."""

    @pytest.fixture
    def stratagem_spec(self, spec, cluster):
        return spec
