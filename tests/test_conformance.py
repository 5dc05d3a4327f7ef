"""The conformance suite over every strategy that ships, a wrapper, and one of ten lines."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
    "processes(max_workers=2, grace=0.5)",
    "asyncio(grace=0.5)",
    "retry(asyncio(grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
    TenLines,
]
VARIANTS = [
    "threads(max_workers=1, grace=0.5)",
    "asyncio(max_concurrency=1, grace=0.5)",
    "retry(threads(grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
    "retry(processes(max_workers=2, grace=0.5), attempts=2, wait_initial=0.01, wait_jitter=0)",
]


@pytest.fixture(
    params=[*SPECS, *(pytest.param(spec, marks=pytest.mark.once) for spec in VARIANTS)],
    ids=lambda spec: spec if isinstance(spec, str) else spec.__name__,
)
def stratagem_spec(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestEveryStrategy(StrategyConformance):
    """Run the whole suite."""


def test_the_page_of_testing_shows_the_tests_of_the_example_plugin():
    """What the page has a third party write is what one has written, and what runs."""
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs" / "testing.md").read_text(encoding="utf-8")
    written = root / "plugins" / "example_retry" / "tests" / "test_retry_conformance.py"
    shown = page.split("```python notest\n")[1].split("```")[0]

    assert written.read_text(encoding="utf-8").endswith(shown)
    assert page.count("```python notest") == 1
