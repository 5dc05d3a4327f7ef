"""The strategy ``hybrid``: it routes each task to one of several strategies.

``routes`` says what a route is, ``junction`` is one stream at work, ``strategy`` what is offered.
"""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_hybrid.routes import Route, calls_coroutine, has_tag
from stratagem_hybrid.strategy import HybridStrategy, hybrid

__all__ = ["HybridStrategy", "Route", "calls_coroutine", "has_tag", "hybrid"]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer ``hybrid``."""
    return [StrategyInfo("hybrid", hybrid, "each task by one of several strategies, by rule")]
