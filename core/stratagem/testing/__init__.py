"""What the tests of a strategy are made of: the conformance suite, tasks that travel, a recorder.

A third party runs the suite over its own strategy with one fixture::

    import pytest
    from stratagem.testing import StrategyConformance


    @pytest.fixture(params=["patient", "retry(patient)"])
    def stratagem_spec(request):
        return request.param


    class TestPatient(StrategyConformance):
        pass
"""

from stratagem.testing.conformance import StrategyConformance
from stratagem.testing.recorder import Event, EventRecorder

__all__ = ["Event", "EventRecorder", "StrategyConformance"]
