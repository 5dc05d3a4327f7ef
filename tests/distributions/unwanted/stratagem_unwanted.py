"""Gives a strategy that nobody asks for."""

from stratagem import StrategyInfo, hookimpl


@hookimpl
def stratagem_strategies():
    """Offer what makes nothing."""
    return [StrategyInfo("unwanted", dict)]
