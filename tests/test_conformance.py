"""The conformance suite over every strategy that ships, a wrapper, and one of ten lines."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stratagem import ExecutionStrategy
from stratagem.testing import StrategyConformance


class TenLines(ExecutionStrategy):
    """Implement what the seed asks for, and nothing else."""

    shares_memory = True

    def run_tasks(self, callables: Sequence[Callable[[], Any]]) -> list[Any]:
        with ThreadPoolExecutor(4) as executor:
            return [future.result() for future in [executor.submit(call) for call in callables]]


SPECS = [
    "sequential",
    "threads(grace=0.5)",
    "threads(max_workers=1, grace=0.5)",
    "processes(max_workers=2, grace=0.5)",
    "asyncio(grace=0.5)",
    "asyncio(max_concurrency=1, grace=0.5)",
    "retry(threads(grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
    "retry(processes(max_workers=2, grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
    "retry(asyncio(grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
    TenLines,
]


@pytest.fixture(params=SPECS, ids=lambda spec: spec if isinstance(spec, str) else spec.__name__)
def stratagem_spec(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestEveryStrategy(StrategyConformance):
    """Run the whole suite."""
