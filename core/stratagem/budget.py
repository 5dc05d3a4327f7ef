"""A limit that has a name: so many calls of one kind at once, whatever runs them."""

import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import attrs

from stratagem.errors import BudgetError
from stratagem.loops import a_loop_runs
from stratagem.options import require_count

__all__ = [
    "Authority",
    "Budget",
    "Ticket",
    "ask_elsewhere",
    "authority_here",
    "budgets_held",
    "request",
    "waiting",
]

OnGrant = Callable[[], None]


class Ticket(Protocol):
    """Be a place of a budget, waited for or taken."""

    @property
    def granted(self) -> bool:
        """Tell whether the place is taken by who asked for it."""

    @property
    def problem(self) -> str:
        """Say why it will never be granted; ``""`` if it is or may be."""

    def give_back(self) -> None:
        """Leave the place, or the queue for it; called again it does nothing."""


Authority = Callable[[str, int, OnGrant], Ticket]
"""Asks for a place of the budget of that name and limit; the function is called once, from any
thread, when the place is granted or refused, and must not block."""


@attrs.frozen(eq=False)
class _Hold:
    """Note who has which place; coroutines and threads that it starts inherit the note."""

    name: str
    ticket: Ticket
    holder: object


_held: ContextVar[tuple[_Hold, ...]] = ContextVar("stratagem_budgets", default=())


class Budget:
    """Let at most ``limit`` calls at once through, of all that name the same budget.

    Take it around the call itself, in ``with`` or ``async with``::

        openai = stratagem.Budget("openai", 20)

        async def ask(question):
            async with openai:
                return await client.responses.create(...)

    It holds over all strategies of a program and over the worker processes of ``processes``,
    however deep. Who asked first is served first. What a worker that dies had taken is given back.

    Args:
        name: what it is a limit of; budgets of one name are one.
        limit: how many may have it at once.

    Raises:
        TypeError: the name is no text.
        ValueError: the name is empty, the limit is no positive number, or a budget of this name
            has another limit.
    """

    def __init__(self, name: str, limit: int) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a budget is a str, not {name!r}")
        if not name:
            raise ValueError("the name of a budget cannot be empty")
        self.name = name
        self.limit = require_count("limit", limit)
        self._taken: list[_Hold] = []
        if problem := _pool(name, limit).problem_of(limit):
            raise ValueError(problem)

    def __repr__(self) -> str:
        """Show it as it is made."""
        return f"Budget({self.name!r}, {self.limit})"

    def __reduce__(self) -> tuple[type["Budget"], tuple[str, int]]:
        """Come out of a pickle as the same budget."""
        return Budget, (self.name, self.limit)

    def __enter__(self) -> Self:
        """Wait for a place, and take it.

        Raises:
            BudgetError: the code that asks has one already, and would wait for itself; or it would
                have to wait where an event loop runs, on which others may have the places.
        """
        granted = threading.Event()
        ticket = self._ask(granted.set)
        try:
            self._wait(granted)
            self._hold(ticket)
        except BaseException:
            ticket.give_back()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the place to the next."""
        mine = [hold for hold in _held.get() if hold in self._taken]
        # One that is left in another context than it was entered in: any place is as good.
        hold = mine[-1] if mine else self._taken[-1]
        _held.set(tuple(other for other in _held.get() if other is not hold))
        self._taken.remove(hold)
        hold.ticket.give_back()

    async def __aenter__(self) -> Self:
        """Wait for a place while the loop goes on, and take it; otherwise as ``with``."""
        import asyncio  # noqa: PLC0415 - it is slow to import

        loop = asyncio.get_running_loop()
        granted = asyncio.Event()
        ticket = self._ask(partial(_tell, loop, granted.set))
        try:
            await granted.wait()
            self._hold(ticket)
        except BaseException:
            ticket.give_back()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the place to the next."""
        self.__exit__(exc_type, exc, traceback)

    def _ask(self, on_grant: OnGrant) -> Ticket:
        if self.name in budgets_held():
            raise BudgetError(
                f"the budget {self.name!r} is taken here already and would never come; "
                "take it around the innermost call alone"
            )
        return request(self.name, self.limit, on_grant)

    def _wait(self, granted: threading.Event) -> None:
        if not granted.is_set() and a_loop_runs():
            raise BudgetError(
                f"`with` would block the event loop that runs here until {self!r} has a place; "
                "use `async with`"
            )
        granted.wait()

    def _hold(self, ticket: Ticket) -> None:
        if ticket.problem:
            raise BudgetError(ticket.problem)
        hold = _Hold(self.name, ticket, _who())
        self._taken.append(hold)
        _held.set((*_held.get(), hold))


def budgets_held() -> list[str]:
    """Name the budgets that the coroutine or thread which calls this has taken."""
    held = [hold for hold in _held.get() if hold.ticket.granted]
    return [hold.name for hold in held if hold.holder == _who()] if held else []


def _who() -> object:
    """Give what runs here: a coroutine's task where a loop runs, else the thread."""
    if not a_loop_runs():
        return threading.get_ident()
    import asyncio  # noqa: PLC0415 - it is slow to import, but here it is loaded

    return asyncio.current_task() or threading.get_ident()


def _tell(loop: Any, tell: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop is closed, and nobody waits on it any more
        return


class _Place:
    """Be a ticket of a budget of this process."""

    def __init__(self, pool: "_Pool", on_grant: OnGrant, problem: str) -> None:
        self.problem = problem
        self.on_grant = on_grant
        self.granted = False
        self._pool = pool

    def give_back(self) -> None:
        self._pool.give_back(self)


class _Pool:
    """Be the places of one budget, and the queue for them."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._free = limit
        # A garbage collection that drops who waits may come back here in the same thread.
        self._lock = threading.RLock()
        self._queue: deque[_Place] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def problem_of(self, limit: int) -> str:
        if limit == self._limit:
            return ""
        return (
            f"the budget {self._name!r} has the limit {self._limit}, so it cannot have {limit}; "
            "make it once, or give it another name"
        )

    def ask(self, limit: int, on_grant: OnGrant) -> _Place:
        place = _Place(self, on_grant, self.problem_of(limit))
        with self._lock:
            place.granted = not place.problem and self._free > 0
            self._free -= place.granted
            if not (place.granted or place.problem):
                self._queue.append(place)
                return place
        on_grant()
        return place

    def give_back(self, place: _Place) -> None:
        following = None
        with self._lock:
            if place in self._queue:
                self._queue.remove(place)
            elif place.granted:
                place.granted = False
                if self._queue:
                    following = self._queue.popleft()
                    following.granted = True
                else:
                    self._free += 1
        if following is not None:
            following.on_grant()


_pools: dict[str, _Pool] = {}
_making = threading.Lock()
_authority: Authority | None = None
authority_here: ContextVar[Authority | None] = ContextVar("stratagem_authority", default=None)
"""Who is asked by the code of this context, where that is not the same in all of the process."""


def _pool(name: str, limit: int) -> _Pool:
    with _making:
        if name not in _pools:
            _pools[name] = _Pool(name, limit)
        return _pools[name]


def request(name: str, limit: int, on_grant: OnGrant) -> Ticket:
    """Ask for a place of the budget ``name``, where the budgets of this program are kept."""
    authority = authority_here.get() or _authority
    if authority is not None:
        return authority(name, limit, on_grant)
    return _pool(name, limit).ask(limit, on_grant)


def ask_elsewhere(authority: Authority) -> None:
    """Have every place of a budget asked for from ``authority``: this is a worker process."""
    global _authority  # noqa: PLW0603 - one process has one
    _authority = authority


def waiting() -> dict[str, int]:
    """Tell which budgets of this process are waited for, and by how many."""
    return {name: pool.waiting for name, pool in list(_pools.items()) if pool.waiting}
