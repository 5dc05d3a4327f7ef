"""The strategy ``retry``: it wraps another one, and tries again what failed."""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_retry.strategy import RetryStrategy

__all__ = ["RetryStrategy"]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer ``retry``."""
    return [StrategyInfo("retry", RetryStrategy, "another strategy, failed tasks tried again")]
