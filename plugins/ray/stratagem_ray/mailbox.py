"""The actor through which an owner and the tasks it runs reach each other: Ray gives them no way.

What either has to say waits here until the other asks for it.
"""

import asyncio
from collections import defaultdict
from typing import Any, cast

import ray

__all__ = ["Mailbox", "mailbox"]

MANY = 100_000
"""How many may ask at once: every process of the cluster does."""


class _Pile:
    """Be what waits for one reader."""

    def __init__(self) -> None:
        self._letters: list[bytes] = []
        self._there = asyncio.Event()

    def add(self, letter: bytes) -> None:
        self._letters.append(letter)
        self._there.set()

    async def take(self) -> list[bytes]:
        await self._there.wait()
        self._there.clear()
        letters, self._letters = self._letters, []
        return letters


class Mailbox:
    """Keep letters for an owner, and for its workers by their addresses."""

    def __init__(self) -> None:
        self._for_owner = _Pile()
        self._for_workers: defaultdict[str, _Pile] = defaultdict(_Pile)
        self._bells: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def post(self, letter: bytes) -> None:
        """Have the owner told something."""
        self._for_owner.add(letter)

    async def listen(self) -> list[bytes]:
        """Give the owner what it is to be told, once there is something."""
        return await self._for_owner.take()

    async def send(self, address: str | None, letter: bytes) -> None:
        """Have a worker told something, or all that there are."""
        for pile in self._for_workers.values() if address is None else [self._for_workers[address]]:
            pile.add(letter)

    async def enrol(self, address: str) -> None:
        """Keep letters for a worker from now on."""
        _ = self._for_workers[address]

    async def take(self, address: str) -> list[bytes]:
        """Give a worker what it is to be told, once there is something."""
        return await self._for_workers[address].take()

    async def until(self, bell: str) -> None:
        """Wait until somebody rings."""
        await self._bells[bell].wait()
        del self._bells[bell]

    async def ring(self, bell: str) -> None:
        """Let the one who waits for this bell go, or who will."""
        self._bells[bell].set()


# Under another name: what Ray finds under its own name it sends as a name.
mailbox: Any = cast("Any", ray.remote)(
    num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=MANY
)(Mailbox)
