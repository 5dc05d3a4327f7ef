"""From the caller's items to tasks: numbered, keyed, entered into the ledger, announced."""

import warnings
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from stratagem.errors import DuplicateKeyError, LateBindingWarning
from stratagem.invoke import Bound, callable_name
from stratagem.plan import Plan
from stratagem.run import Announcer
from stratagem.strategy import late_binding_advice, shares_its_variables
from stratagem.task import Task

__all__ = ["Numbering"]

KEY_BYTES = 512
NO_TAGS: frozenset[str] = frozenset()


class Numbering:
    """Make a task of each item of a plan, in the thread that takes it.

    It knows nothing of the stream that reads the outcomes, so that one that is dropped can go.

    Attributes:
        ledger: the tasks that were announced and are not settled, by index.
    """

    def __init__(self, plan: Plan, announcer: Announcer, context: Context) -> None:
        self._plan = plan
        self._announcer = announcer
        self._context = context
        self._keys = _Keys(plan)
        self._name = "" if plan.function is None else callable_name(plan.function)
        self._previous_call: object = None
        self.ledger: dict[int, Task] = {}

    def make(self, index: int, item: Any) -> Task:
        """Make and announce the task of an item.

        Raises:
            TypeError: the item is to be called, and can't be.
            DuplicateKeyError, ValueError: its key can't be one.
        """
        plan = self._plan
        if plan.function is not None:
            call: Callable[[], Any] = Bound(plan.function, item)
            name = self._name
        else:
            call = self._checked(index, item)
            name = callable_name(item)
        key = str(index) if plan.key is None else self._keys.of(index, item)
        task = Task(index, key, name, call, plan.timeout, 1, NO_TAGS, self._context)
        self.ledger[index] = task
        if self._announcer.before:
            self._announcer.tell("stratagem_before_task", task=task)
        return task

    def _checked(self, index: int, item: Any) -> Callable[[], Any]:
        if not callable(item):
            raise TypeError(
                f"input {index} is {item!r}, which cannot be called; "
                "`run` takes callables of no arguments, `map` a function and its items"
            )
        if shares_its_variables(item, self._previous_call) and self._plan.total is None:
            warnings.warn(late_binding_advice(item), LateBindingWarning, stacklevel=2)
        self._previous_call = item
        return item  # type: ignore[no-any-return]


class _Keys:
    """Give each input its key, and refuse one that is given twice.

    The keys of a sequence are all looked at before anything runs.
    """

    def __init__(self, plan: Plan) -> None:
        self._key = plan.key
        self._positions: dict[str, int] = {}
        self._known: list[str] | None = None
        if plan.key is not None and isinstance(plan.items, Sequence):
            self._known = [self._checked(index, item) for index, item in enumerate(plan.items)]

    def of(self, index: int, item: object) -> str:
        """Give the key of the item at ``index``."""
        return self._checked(index, item) if self._known is None else self._known[index]

    def _checked(self, index: int, item: object) -> str:
        assert self._key is not None
        given = self._key(item)
        key = given if isinstance(given, str) else str(given)
        size = len(key.encode("utf-8", "surrogatepass"))
        if not 0 < size <= KEY_BYTES:
            raise ValueError(
                f"the key of input {index} has {size} bytes of UTF-8; a key has 1 to {KEY_BYTES}"
            )
        first = self._positions.setdefault(key, index)
        if first != index:
            raise DuplicateKeyError(key, (first, index))
        return key
