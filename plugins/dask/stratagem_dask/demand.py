"""What waits for a slot, shown to the scheduler: one that adapts would not grow without it."""

import itertools
from typing import Any

__all__ = ["Demand"]

MOST = 100
"""A scheduler looks at no more than so many tasks that wait."""

NOWHERE = "tcp://127.255.255.254:1"
"""An address at which no worker is: what is pinned to it waits until it is taken back."""


class Demand:
    """Be tasks that wait at the scheduler, one for each delivery that waits here, and never run.

    Deliveries themselves are pinned to a worker that has a slot for them, so none waits there.

    Args:
        client: the client.
        prefix: what the keys of deliveries begin with: how long these take tells how much to grow.
    """

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self._shown: list[Any] = []

    @property
    def is_shown(self) -> bool:
        """Tell whether any wait: they keep a cluster from growing smaller."""
        return bool(self._shown)

    def show(self, waiting: int) -> None:
        """Have so many tasks wait, about as many at the most as count."""
        wanted = min(waiting, MOST)
        while len(self._shown) > wanted:
            self._shown.pop().release()
        missing = wanted - len(self._shown)
        if missing:
            numbers = list(itertools.islice(self._numbers, missing))
            keys = [(self._prefix, -number) for number in numbers]
            self._shown += self._client.map(
                abs, numbers, key=keys, workers=[NOWHERE], retries=0, pure=False
            )
