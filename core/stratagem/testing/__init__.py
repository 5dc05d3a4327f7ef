"""What the tests of a strategy are made of: the conformance suite, a recorder, what is left behind.

A third party runs the suite over its own strategy with one fixture::

    import pytest
    from stratagem.testing import StrategyConformance


    @pytest.fixture(params=["patient", "retry(patient)"])
    def stratagem_spec(request):
        return request.param


    class TestPatient(StrategyConformance):
        pass

The tasks of the suite travel to workers, which import them from here:
so nothing that only the tests need is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratagem.testing.conformance import StrategyConformance
    from stratagem.testing.leaving import Stock, leftovers, take_stock
    from stratagem.testing.recorder import Event, EventRecorder

__all__ = [
    "Event",
    "EventRecorder",
    "Stock",
    "StrategyConformance",
    "leftovers",
    "take_stock",
]

_HOMES = {
    "Event": "recorder",
    "EventRecorder": "recorder",
    "Stock": "leaving",
    "StrategyConformance": "conformance",
    "leftovers": "leaving",
    "take_stock": "leaving",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
