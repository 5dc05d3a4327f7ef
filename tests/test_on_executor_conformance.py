"""The conformance suite over executors that others wrote: threads, processes, and loky's."""

import importlib.util
from typing import Any

import pytest

from stratagem.testing import StrategyConformance

SPECS = [
    "executor('concurrent.futures:ThreadPoolExecutor', max_workers=4, grace=0.5)",
    pytest.param(
        "executor('concurrent.futures:ProcessPoolExecutor', max_workers=2, grace=0.5)",
        marks=pytest.mark.once,
    ),
    pytest.param(
        "executor('loky:ProcessPoolExecutor', max_workers=2, grace=0.5)", marks=pytest.mark.once
    ),
]


@pytest.fixture(params=SPECS, ids=lambda spec: spec.split("'")[1])
def stratagem_spec(request: pytest.FixtureRequest) -> Any:
    if "loky" in request.param and importlib.util.find_spec("loky") is None:
        pytest.skip("loky is not installed")
    return request.param


class TestEveryExecutor(StrategyConformance):
    """Run the whole suite."""
