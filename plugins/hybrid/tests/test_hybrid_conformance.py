"""The conformance suite that every strategy must pass, over ``hybrid`` and what it is made of."""

import pytest

from stratagem.testing import StrategyConformance
from stratagem_builtin import AsyncStrategy, ThreadPoolStrategy
from stratagem_hybrid import HybridStrategy, Route, hybrid


def by_turns():
    """Make a strategy that sends every third task to each of three, two of them of one slot."""
    return HybridStrategy(
        [
            Route("threads", lambda task: task.index % 3 == 0, ThreadPoolStrategy(1, grace=0.5)),
            Route("loop", lambda task: task.index % 3 == 1, AsyncStrategy(1, grace=0.5)),
        ],
        hybrid(ThreadPoolStrategy(2, grace=0.5), coroutines=AsyncStrategy(grace=0.5)),
        look_ahead=2,
    )


SPECS = {
    "default": "hybrid(threads(grace=0.5), coroutines=asyncio(grace=0.5), "
    "cpu=processes(max_workers=2, grace=0.5))",
    "narrow": "hybrid(threads(max_workers=1, grace=0.5), "
    "coroutines=asyncio(max_concurrency=1, grace=0.5), look_ahead=1)",
    "in retry": "retry(hybrid(threads(grace=0.5), coroutines=asyncio(grace=0.5)), attempts=2, "
    "wait_initial=0.01, wait_jitter=0)",
    "by turns": by_turns,
}


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def stratagem_spec(request):
    return request.param


class TestHybrid(StrategyConformance):
    """Run the whole suite."""
