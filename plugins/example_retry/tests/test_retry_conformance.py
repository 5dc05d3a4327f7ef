"""The conformance suite that every strategy must pass, over ``retry`` around others."""

import pytest

from stratagem.testing import StrategyConformance

SPECS = [
    "retry(sequential, wait_initial=0, wait_jitter=0)",
    "retry(retry(threads(grace=0.5), attempts=1), attempts=2, wait_initial=0, wait_jitter=0)",
]


@pytest.fixture(params=SPECS)
def stratagem_spec(request):
    return request.param


class TestRetry(StrategyConformance):
    """Run the whole suite, and a promise of our own."""

    def test_a_task_tried_again_is_announced_once(
        self, stratagem_engine, stratagem_strategy, stratagem_recorder
    ):
        """However often it is tried, listeners hear of a task once."""
        report = stratagem_engine.map(int, ["one"], strategy=stratagem_strategy)

        assert report[0].attempts > 1
        assert stratagem_recorder.keys == ["0"]
