"""The strategy ``ray``: it runs tasks in Ray tasks or Ray actors, of a cluster or of this machine.

``strategy`` is what is offered, ``place`` says which Ray, ``connection`` finds it or starts it.
``backend`` places deliveries, ``actors`` and ``tasks`` carry them in one of the two modes.
``errands``, ``workers``, ``station``, ``mailbox`` and ``host`` are what runs in processes of Ray.
Ray itself is imported with the first task.
"""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_ray.strategy import RayStrategy

__all__ = ["RayStrategy"]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer ``ray``."""
    return [
        StrategyInfo(
            "ray",
            RayStrategy,
            "Ray actors or tasks, of this machine or of a cluster",
            imports_code=frozenset({"ship_modules"}),
        )
    ]
