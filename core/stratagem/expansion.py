"""Tasks that lead to further tasks, so that nobody knows beforehand how many there will be."""

import heapq
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextvars import Context
from typing import Any, Literal, Protocol

import attrs

from stratagem.errors import DuplicateKeyError
from stratagem.intake import Intake
from stratagem.keys import checked_key, child_key
from stratagem.opening import open_intake
from stratagem.options import require_count
from stratagem.task import Outcome, Task, Wait

__all__ = ["Expansion", "ExpansionIntake", "Growth"]

_FOREVER = Wait()
_PASSED_OVER: Any = Wait(0.0)


def _as_items(given: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(given, str | bytes | bytearray) or not isinstance(given, Iterable):
        raise TypeError(
            f"the items of an Expansion are an iterable of items, not {given!r}; "
            f"for that one item write `Expansion(value, [{given!r}])`"
        )
    return tuple(given)


@attrs.frozen
class Expansion:
    """Be what a step of ``expand`` returns when its item leads to further items.

    Attributes:
        value: the value of the outcome.
        items: what the step is called with next, each in a task of its own, one level deeper.
    """

    value: Any
    items: tuple[Any, ...] = attrs.field(default=(), converter=_as_items)


class _MakeTask(Protocol):
    def __call__(self, index: int, item: Any, key: str | None, parent: str | None) -> Task: ...


@attrs.frozen
class Growth:
    """Hold how far an expansion goes, and what counts as one item.

    Attributes:
        key: gives the key of an item; None for the path to it.
        max_depth: how deep it goes, the seeds being at 0; None for any depth.
        max_tasks: how many tasks it runs at the most; None for any number.
        duplicates: whether an item whose key is known is skipped, or ends the run.
    """

    key: Callable[[Any], object] | None = None
    max_depth: int | None = None
    max_tasks: int | None = None
    duplicates: Literal["skip", "raise"] = "skip"

    def __attrs_post_init__(self) -> None:
        """Refuse bounds that make no sense.

        Raises:
            ValueError: naming the option, and what it may be.
        """
        if self.max_depth is not None:
            require_count("max_depth", self.max_depth, least=0)
        if self.max_tasks is not None:
            require_count("max_tasks", self.max_tasks)
        if self.duplicates not in {"skip", "raise"}:
            raise ValueError(f"duplicates must be 'skip' or 'raise', not {self.duplicates!r}")

    @property
    def deepest_first(self) -> bool:
        """Tell whether the deepest items go first, which keeps those that wait few.

        Where an item is run once and only to a depth, those nearest to a seed go first:
        one met first at the end of a long way would hide what lies behind it.
        """
        return self.key is None or self.max_depth is None

    def open_intake(
        self, items: Iterable[Any] | AsyncIterable[Any], make: _MakeTask, context: Context
    ) -> "ExpansionIntake":
        """Give the source of the tasks of an expansion from ``items``."""
        return ExpansionIntake(self, items, make, context)


class ExpansionIntake(Intake):
    """Be a source at the root that the outcomes of its tasks feed.

    It is over when its seeds are, nothing waits, and everything handed out is settled.
    """

    def __init__(
        self,
        growth: Growth,
        items: Iterable[Any] | AsyncIterable[Any],
        make: _MakeTask,
        context: Context,
    ) -> None:
        super().__init__(self._seed)
        self._growth = growth
        self._make_task = make
        self._lock = threading.Lock()
        self._frontier: list[tuple[int, int, Any, str, str]] = []
        self._numbers = itertools.count()
        self._known: dict[str, int] = {}
        self._too_deep: set[str] = set()
        self._left_out = 0
        self._handed_out = 0
        self._depths: dict[int, int] = {}
        self._found: tuple[Any, ...] = ()
        self._ended = False
        self._asking = 0
        self._seeds_read = 0
        self._seeds_over = False
        self._seed_count = len(items) if isinstance(items, Sequence) else 0
        self._seeds = open_intake(items, self._seed, context)
        self._seeds.subscribe(self.wake)
        looks = (self._ask_frontier, self._ask_seeds)
        self._looks = looks if growth.deepest_first else looks[::-1]

    @property
    def _spent(self) -> bool:
        most = self._growth.max_tasks
        return most is not None and self._handed_out >= most

    @property
    def _halted(self) -> bool:
        return self._closed or self._ended or self._spent

    def poll(self) -> Task | Wait | None:
        """Give the task of an item that waits, or of a seed."""
        for look in self._looks:
            found = look()
            if found is not None:
                return found
        with self._lock:
            return self._rest()

    def _rest(self) -> Wait | None:
        if self._halted:
            return None
        if self._frontier:
            return Wait(0.0)
        if self._seeds_over and not self._depths and not self._asking:
            self.exhausted = True
            return None
        return _FOREVER

    def _ask_frontier(self) -> Task | None:
        with self._lock:
            if self._halted or not self._frontier:
                return None
            level, _, item, key, parent = heapq.heappop(self._frontier)
            index = self._hand_out(abs(level))
        return self._announced(index, item, key, parent)

    def _ask_seeds(self) -> Task | None:
        with self._lock:
            if self._halted or self._seeds_over:
                return None
            self._asking += 1
        found: Task | Wait | None = _PASSED_OVER
        try:
            while found is _PASSED_OVER and not self._spent:
                found = self._seeds.poll()
        finally:
            with self._lock:
                self._asking -= 1
                self._seeds_over = self._seeds_over or found is None
                over = self._rest() is None
        if found is None and self._seeds.failure is not None:
            self.fail(self._seeds.failure)
        elif over:
            self.wake()
        return found if isinstance(found, Task) else None

    def _seed(self, position: int, item: object) -> Any:
        """Give the task of a seed, or say that it is passed over."""
        key = self._key_of(item, str(position))
        with self._lock:
            self._seeds_read += 1
            if not self._is_new(key):
                return _PASSED_OVER
            if self._spent:
                self._left_out += 1
                return _PASSED_OVER
            index = self._hand_out(0)
        return self._announced(index, item, key, None)

    def _hand_out(self, depth: int) -> int:
        index = self._handed_out
        self._handed_out += 1
        self._depths[index] = depth
        return index

    def _announced(self, index: int, item: object, key: str, parent: str | None) -> Task | None:
        try:
            return self._make_task(index, item, key, parent)
        except BaseException as error:  # noqa: BLE001 - the run ends with it, on the consumer's side
            self.fail(error)
            return None

    def _key_of(self, item: object, path: str) -> str:
        if self._growth.key is None:
            return path
        return checked_key(self._growth.key(item), f"the item {path!r}")

    def _is_new(self, key: str) -> bool:
        """Tell whether an item was not met before, and remember it."""
        if self._growth.key is None:
            return True
        number = len(self._known)
        first = self._known.setdefault(key, number)
        if first != number and self._growth.duplicates == "raise":
            error = DuplicateKeyError(key, (first, number))
            error.add_note("`duplicates='skip'` runs each key once, and passes the others over")
            raise error
        return first == number

    def opened(self, outcome: Outcome) -> Outcome:
        """Give an outcome with its own value, and keep the items beside that for ``grow``."""
        expansion = outcome.value
        if not isinstance(expansion, Expansion):
            return outcome
        self._found = expansion.items
        return attrs.evolve(outcome, value=expansion.value)

    def grow(self, task: Task) -> None:
        """Forget ``task``, which is settled, and take in the items that it has led to."""
        found, self._found = self._found, ()
        keyed: list[tuple[str, Any]] = []
        try:
            for position, item in enumerate(found):
                keyed.append((self._key_of(item, child_key(task.key, position)), item))
            with self._lock:
                depth = self._depths.pop(task.index, 0) + 1
                for key, item in keyed:
                    self._enter(key, item, task.key, depth)
                over = self._rest() is None
        except BaseException as error:  # noqa: BLE001 - the run ends with it, as with a broken input
            self.fail(error)
            return
        if self._spent and not self._depths:
            self._look_for_more()
        if found or over:
            self.wake()

    def _enter(self, key: str, item: object, parent: str, depth: int) -> None:
        most = self._growth.max_depth
        if most is not None and depth > most:
            self._too_deep.add(key)
        elif self._is_new(key):
            if self._halted:
                self._left_out += 1
                return
            level = -depth if self._growth.deepest_first else depth
            entry = (level, next(self._numbers), item, key, parent)
            heapq.heappush(self._frontier, entry)

    def _look_for_more(self) -> None:
        """See, when all is settled and no more may be run, whether there was more."""
        found: Task | Wait | None = _PASSED_OVER
        while found is _PASSED_OVER and not self._left_out and not self._frontier:
            found = self._seeds.poll()
        self.exhausted = found is None
        self.bound = None if self.exhausted else "max_tasks"

    @property
    def unfollowed(self) -> Counter[str]:
        """Count, by why, the items that tasks have led to and that are not run."""
        with self._lock:
            counts = Counter(max_depth=len(self._too_deep - self._known.keys()))
            if self._halted:
                unread = max(0, self._seed_count - self._seeds_read)
                why = "max_tasks" if self._spent else "stopped"
                counts[why] += len(self._frontier) + self._left_out + unread
        return +counts

    def _end(self) -> None:
        self._ended = True
        self.wake()

    def close(self) -> None:
        """Give nothing more, and let the seeds go."""
        self._seeds.close()
        super().close()

    def settle_stages(self) -> None:
        """Wait, once this is closed, until the streams that it read are settled."""
        self._seeds.settle_stages()

    def is_read_in(self, ident: int) -> bool:
        """Tell whether that thread is busy with the seeds, or further up."""
        return self._seeds.is_read_in(ident)
