"""From the caller's items to tasks: numbered, keyed, entered into the ledger, announced."""

import warnings
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any

from stratagem.batch import Batch, MakeBatch
from stratagem.errors import DuplicateKeyError, LateBindingWarning
from stratagem.invoke import callable_name
from stratagem.keys import KEY_BYTES, checked_key, child_key
from stratagem.plan import Plan
from stratagem.run import Announcer
from stratagem.strategy import late_binding_advice, shares_its_variables
from stratagem.tags import NO_TAGS, tags_of
from stratagem.task import Task

__all__ = ["KEY_BYTES", "Entry", "Numbering"]

_new = object.__new__
_READ_IN_PLACE = (list, tuple, range)
"""Inputs that give the same item again, at no cost."""

Entry = Task | str | tuple[str, Any]
"""What the ledger knows of a task: itself, its key, or its key and its item."""


class Numbering:
    """Make a task of each item of a plan, in the thread that takes it.

    It knows nothing of the stream that reads the outcomes, so that one that is dropped can go.

    Attributes:
        ledger: by index, what was announced and is not settled: the task where listeners ask for
            it, else what it can be made of again, which is its key and, where the input can't be
            read twice, the item. Tasks that wait for their outcome to be read would be three
            objects each, which every garbage collection walks over from core to core.
        keeps_tasks: whether it keeps the tasks themselves.
    """

    def __init__(
        self, plan: Plan, announcer: Announcer, context: Context, parent: str | None = None
    ) -> None:
        self._function = plan.function
        self._timeout = plan.timeout
        self._total = plan.total
        self._announcer = announcer
        self._before = announcer.before
        self._context = context
        self._parent = parent
        self._keys = _keys_of(plan)
        self._tagger = plan.tags if callable(plan.tags) else None
        self._tags = NO_TAGS if callable(plan.tags) else plan.tags
        self._name = "" if plan.function is None else callable_name(plan.function)
        self._previous_call: object = None
        self._last_named: tuple[object, str] = (self, "")
        listens = announcer.before or announcer.after
        self.keeps_tasks = listens or self._tagger is not None or plan.growth is not None
        self._reads_again = plan.items if isinstance(plan.items, _READ_IN_PLACE) else None
        self.ledger: dict[int, Entry] = {}

    def make(
        self, index: int, item: Any, key: str | None = None, parent: str | None = None
    ) -> Task:
        """Make and announce the task of an item.

        Args:
            index: its index.
            item: what to call, or to call the function with.
            key: its key, where that is known.
            parent: the key of the task that led to it; by default that which started the run.

        Raises:
            TypeError: the item is to be called, and can't be.
            DuplicateKeyError, ValueError: its key can't be one, or its tags can't.
        """
        if self._function is not None:
            call: Callable[[], Any] = partial(self._function, item)
            name = self._name
        else:
            call = self._checked(index, item)
            name = callable_name(item)
        if key is None:
            key = str(index) if self._keys is None else self._keys.of(index, item)
        task = _new(Task)  # field by field: two thirds of the cost of the constructor
        task.index = index
        task.key = key
        task.name = name
        task.call = call
        task.timeout = self._timeout
        task.attempt = 1
        task.tags = self._tags if self._tagger is None else tags_of(index, item, self._tagger)
        task.context = self._context
        task.parent = self._parent if parent is None else parent
        if self.keeps_tasks:
            self.ledger[index] = task
            if self._before:
                self._announcer.tell("stratagem_before_task", task=task)
        else:
            self.ledger[index] = key if self._reads_again is not None else (key, item)
        return task

    def maker(self) -> Callable[[int, Any], Task]:
        """Give what makes and announces the task of an item: a quick ``make`` where nobody listens.

        It gives the same task for less than two thirds of the cost.
        """
        if self._keys is not None or self.keeps_tasks:
            return self.make
        function, name, keep_item = self._function, self._name, self._reads_again is None
        timeout, tags, named = self._timeout, self._tags, self._named
        context, parent, ledger = self._context, self._parent, self.ledger

        def make(index: int, item: Any) -> Task:
            task = _new(Task)
            task.index = index
            task.key = key = str(index)
            if function is None:
                task.name = named(index, item)
                task.call = item
            else:
                task.name = name
                task.call = partial(function, item)
            task.timeout = timeout
            task.attempt = 1
            task.tags = tags
            task.context = context
            task.parent = parent
            ledger[index] = (key, item) if keep_item else key
            return task

        return make

    def batcher(self) -> MakeBatch | None:
        """Give what makes and announces the tasks of many items at once, where they can be alike.

        None where listeners, keys or tags of the caller want to see each.
        """
        function = self._function
        if function is None or self._keys is not None or self.keeps_tasks:
            return None
        called = function
        template = Task(
            0, "", self._name, _no_call, self._timeout, 1, self._tags, self._context, self._parent
        )
        ledger, keep_items = self.ledger, self._reads_again is None

        def make_batch(indices: Sequence[int], items: Sequence[Any]) -> Batch:
            batch = Batch(template, called, indices, items)
            entries = zip(batch.keys, items, strict=True) if keep_items else batch.keys
            ledger.update(zip(indices, entries, strict=True))
            return batch

        return make_batch

    def _named(self, index: int, item: Any) -> str:
        """Name an item to be called, if it can be; most are alike."""
        function = item.func if type(item) is partial else item
        known, name = self._last_named
        if function is known and self._total is not None:
            return name
        self._last_named = function, callable_name(self._checked(index, item))
        return self._last_named[1]

    def entered(self, index: int, entry: Entry) -> Task:
        """Give the task of an entry of the ledger."""
        if isinstance(entry, Task):
            return entry
        if isinstance(entry, tuple):
            key, item = entry
        else:
            key, item = entry, self._item(index)
        call = item if self._function is None else partial(self._function, item)
        name = self._name or callable_name(item)
        context, parent = self._context, self._parent
        return Task(index, key, name, call, self._timeout, 1, self._tags, context, parent)

    def _item(self, index: int) -> Any:
        """Give an item again; None where the caller has taken it out of the list meanwhile."""
        items = self._reads_again
        return items[index] if items is not None and index < len(items) else None

    def _checked(self, index: int, item: Any) -> Callable[[], Any]:
        if not callable(item):
            raise TypeError(
                f"input {index} is {item!r}, which cannot be called; "
                "`run` takes callables of no arguments, `map` a function and its items"
            )
        if self._total is None:
            if shares_its_variables(item, self._previous_call):
                warnings.warn(late_binding_advice(item), LateBindingWarning, stacklevel=2)
            self._previous_call = item
        return item  # type: ignore[no-any-return]


def _no_call() -> None:
    raise RuntimeError("what tasks share cannot be called")


def _keys_of(plan: Plan) -> "_Keys | _Paths | None":
    if plan.key is not None:
        return _Keys(plan.key, plan.items)
    return _Paths(plan.parent_key) if plan.parent_key is not None else None


class _Paths:
    """Give each child of a task its key: that of the task, and its index."""

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def of(self, index: int, _item: object) -> str:
        """Give the key of the child at ``index``."""
        return child_key(self._parent, index)


class _Keys:
    """Give each input its key, and refuse one that is given twice.

    The keys of a sequence are all looked at before anything runs.
    """

    def __init__(self, key: Callable[[Any], object], items: object) -> None:
        self._key = key
        self._positions: dict[str, int] = {}
        self._known: list[str] | None = None
        if isinstance(items, Sequence):
            self._known = [self._checked(index, item) for index, item in enumerate(items)]

    def of(self, index: int, item: object) -> str:
        """Give the key of the item at ``index``."""
        return self._checked(index, item) if self._known is None else self._known[index]

    def _checked(self, index: int, item: object) -> str:
        key = checked_key(self._key(item), f"input {index}")
        first = self._positions.setdefault(key, index)
        if first != index:
            raise DuplicateKeyError(key, (first, index))
        return key
