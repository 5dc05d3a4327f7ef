"""The conformance suite: what every strategy must do, whoever wrote it.

One module a promise; ``StrategyConformance`` holds them all.
Where a strategy states that it cannot do a thing, the suite checks that the engine refuses it,
or leaves out what would show nothing.
"""

from stratagem.testing.conformance.callers import Callers
from stratagem.testing.conformance.contexts import Contexts
from stratagem.testing.conformance.crashes import Crashes
from stratagem.testing.conformance.inputs import Inputs
from stratagem.testing.conformance.laziness import Laziness
from stratagem.testing.conformance.nesting import Nesting
from stratagem.testing.conformance.outcomes import Outcomes
from stratagem.testing.conformance.residue import Residue
from stratagem.testing.conformance.seed import Seed
from stratagem.testing.conformance.stopping import Stopping
from stratagem.testing.conformance.timeouts import Timeouts

__all__ = ["StrategyConformance"]


class StrategyConformance(
    Outcomes,
    Inputs,
    Laziness,
    Contexts,
    Callers,
    Nesting,
    Seed,
    Stopping,
    Timeouts,
    Crashes,
    Residue,
):
    """Hold the tests; a strategy conforms when all of them pass.

    Derive a test class from it, and give the fixture ``stratagem_spec``.
    """
