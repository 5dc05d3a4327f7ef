"""Gives a strategy of a name that another distribution gives too."""

from stratagem import ExecutionStrategy, StrategyInfo, hookimpl


class TwinStrategy(ExecutionStrategy):
    """Run callables in their order."""

    def run_tasks(self, callables):
        """Call one after another."""
        return [call() for call in callables]


@hookimpl
def stratagem_strategies():
    """Offer it under the name that is taken."""
    return [StrategyInfo("patient", TwinStrategy, "the other one")]
