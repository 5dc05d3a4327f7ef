"""The strategy ``dask``: it runs tasks on a cluster of Dask workers, or on one made for it.

``strategy`` is what is offered, ``connection`` finds or makes the cluster, ``backend`` carries
tasks to its workers, ``worker`` is what they run. Dask itself is imported with the first task.
"""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_dask.strategy import DaskStrategy

__all__ = ["DaskStrategy"]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer ``dask``."""
    return [
        StrategyInfo(
            "dask",
            DaskStrategy,
            "Dask workers, of this machine or of a cluster",
            imports_code=frozenset({"ship_modules"}),
        )
    ]
