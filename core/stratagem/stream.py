"""The pipeline of a run: number the input into tasks, announce, execute, settle."""

import itertools
import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Any, Literal, Self

import attrs

from stratagem.errors import (
    DuplicateKeyError,
    LateBindingWarning,
    RunInterrupted,
    TaskCancelledError,
    TaskLostError,
)
from stratagem.intake import open_intake
from stratagem.invoke import Bound, callable_name, failed
from stratagem.loops import running_on
from stratagem.options import require_count, require_seconds
from stratagem.report import Report
from stratagem.run import Announcer, Run
from stratagem.scope import Children, Scope, run_scope
from stratagem.strategy import ExecutionStrategy, late_binding_advice, shares_its_variables
from stratagem.task import Outcome, Status, Task, raisable
from stratagem.threads import not_an_end

__all__ = ["Plan", "Stream"]

KEEP = 10_000
_log = logging.getLogger("stratagem")
KEY_BYTES = 512


@attrs.frozen
class Plan:
    """Hold what is to be run, and how.

    Attributes:
        items: callables, or what ``function`` is called with.
        function: called with each item; None when the items are the callables.
        on_error: whether the first failure ends the run and is raised, or is collected.
        max_errors: how many failures stop the run; None for any number.
        timeout: seconds that one attempt may run; None for no bound.
        key: gives the key of an item; None for its index.
        keep: how many outcomes a report holds at most; None for all.
    """

    items: Iterable[Any] | AsyncIterable[Any]
    function: Callable[[Any], Any] | None = None
    on_error: Literal["collect", "raise"] = "collect"
    max_errors: int | None = None
    timeout: float | None = None
    key: Callable[[Any], object] | None = None
    keep: int | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse options that make no sense.

        Raises:
            ValueError, TypeError: naming the option, and what it may be.
        """
        if self.on_error not in {"collect", "raise"}:
            raise ValueError(f"on_error must be 'collect' or 'raise', not {self.on_error!r}")
        if self.max_errors is not None:
            require_count("max_errors", self.max_errors)
        if self.timeout is not None:
            require_seconds("timeout", self.timeout, zero=False)
        if self.function is not None and not callable(self.function):
            raise TypeError(f"map needs a function to call, not {self.function!r}")

    @property
    def total(self) -> int | None:
        """Tell how many items there are; None while that is unknown."""
        return len(self.items) if isinstance(self.items, Sequence) else None


class Stream(Iterator[Outcome]):
    """Be the outcomes of a run, as tasks end.

    Iterate over it, in a ``with`` block where you may leave early:
    closing it starts no further task, gives those in flight the grace of their strategy,
    and settles every task that was announced.

    Attributes:
        run: the run, as listeners see it.
    """

    def __init__(
        self,
        plan: Plan,
        strategy: ExecutionStrategy,
        run: Run,
        announcer: Announcer,
        open_children: Callable[[Sequence[Callable[[], Any]]], Children],
    ) -> None:
        self.run = run
        self._plan = plan
        self._announcer = announcer
        self._turn = threading.Lock()
        self._reader = 0
        self._begun = 0.0
        self._closing = False
        self._stopped: str | None = None
        self._interrupted_by: int | None = None
        self._failure: Exception | None = None
        self._ledger: dict[int, Task] = {}
        self._keys = _Keys(plan)
        self._previous_call: object = None
        self._counts: Counter[Status] = Counter()
        self._failed = 0
        self._handed_out: list[Outcome] = []
        self._kept_back: list[Outcome] = []
        self._report: Report | None = None
        with running_on(None):
            self._context = copy_context()
        self._context.run(run_scope.set, Scope(run.id, open_children))
        self._name = None if plan.function is None else callable_name(plan.function)
        self._intake = open_intake(plan.items, self._make, self._context)
        self._answers = strategy.stream(self._intake)
        self._over = False

    def _make(self, index: int, item: Any) -> Task:
        plan = self._plan
        if plan.function is not None:
            call: Callable[[], Any] = Bound(plan.function, item)
            name = self._name or ""
        else:
            call = self._checked(index, item)
            name = callable_name(item)
        key = str(index) if plan.key is None else self._keys.of(index, item)
        task = Task(index, key, name, call, plan.timeout, context=self._context)
        self._ledger[index] = task
        if self._announcer.before:
            self._announcer.tell("stratagem_before_task", task=task)
        return task

    def _checked(self, index: int, item: Any) -> Callable[[], Any]:
        if not callable(item):
            raise TypeError(
                f"input {index} is {item!r}, which cannot be called; "
                "`run` takes callables of no arguments, `map` a function and its items"
            )
        if shares_its_variables(item, self._previous_call) and self.run.total is None:
            _warn_once_of_late_binding(item)
        self._previous_call = item
        return item  # type: ignore[no-any-return]

    def __iter__(self) -> Self:
        """Give the stream itself."""
        return self

    def __next__(self) -> Outcome:
        """Give the next outcome.

        Raises:
            BaseException: what the input raised, or the first failure under ``on_error="raise"``,
                once everything that ran is settled; the partial report is its ``report``.
        """
        if self._in_listener:
            raise RuntimeError("a listener cannot read the stream that it is called for")
        with self._turn:
            self._reader = threading.get_ident()
            try:
                return self._next()
            finally:
                self._reader = 0

    def _next(self) -> Outcome:
        if self._over:
            raise StopIteration
        if not self._begun:
            self._begin()
        while True:
            try:
                outcome = next(self._answers)
            except StopIteration:
                self._end()
                self._raise_what_ended_it()
                raise StopIteration from None
            except BaseException as error:
                self._break_off(error)
                raise
            if not self._settle(outcome):
                continue
            if self._closing:
                self._kept_back.append(outcome)
                continue
            self._hand_out(outcome)
            return outcome

    def _begin(self) -> None:
        self._begun = time.perf_counter()
        self._announcer.tell("stratagem_before_run")

    def _settle(self, outcome: Outcome) -> bool:
        task = self._ledger.pop(outcome.index, None)
        if task is None:
            _log_stray(outcome)
            return False
        if self._announcer.after:
            self._announcer.tell_end_of_task(task, outcome)
        self._counts[outcome.status] += 1
        if outcome.status != "ok":
            self._note_failure(outcome)
        return True

    def _note_failure(self, outcome: Outcome) -> None:
        if self._closing:
            return
        self._failed += 1
        if self._plan.on_error == "raise":
            self._failure = raisable(outcome)
            self.stop("on_error")
        elif self._failed == self._plan.max_errors:
            self.stop("max_errors")

    def _hand_out(self, outcome: Outcome) -> None:
        keep = self._plan.keep
        if keep is None or len(self._handed_out) < keep:
            self._handed_out.append(outcome)

    def _end(self) -> None:
        """Settle what no answer came for, and make the report."""
        for task in sorted(self._ledger.values(), key=lambda task: task.index):
            outcome = self._unanswered(task)
            self._settle(outcome)
            self._kept_back.append(outcome)
        self._over = True
        if self._stopped == "closed" and self._counts.total() == self.run.total:
            self._stopped = None
        if self._intake.failure is not None:
            self._stopped = "input_failed"
        elif self._stopped is None and not self._read_to_its_end:
            self._stopped = "strategy_ended"
        self._report = self._make_report()
        if self._begun:
            self._announcer.tell("stratagem_after_run", report=self._report)
        self._intake.close()

    @property
    def _read_to_its_end(self) -> bool:
        return self._intake.exhausted or self._counts.total() == self.run.total

    def _unanswered(self, task: Task) -> Outcome:
        if self._stopped is not None:
            return failed(task, TaskCancelledError(task.key), Status.CANCELLED)
        error = TaskLostError(task.key, "its strategy ended without an answer for it")
        return failed(task, error, Status.LOST)

    def _make_report(self) -> Report:
        handed_out = self._handed_out
        total = self._counts.total()
        if self._plan.keep is not None and total - len(self._kept_back) > self._plan.keep:
            handed_out = []
        outcomes = sorted(itertools.chain(handed_out, self._kept_back), key=_index)
        seconds = time.perf_counter() - self._begun if self._begun else 0.0
        return Report(
            outcomes,
            Counter(self._counts),
            seconds,
            self._stopped,
            self._announcer.failures,
            self.run.id,
        )

    def _raise_what_ended_it(self) -> None:
        if self._interrupted_by is not None:
            raise RunInterrupted(self._interrupted_by, self.report)
        error = self._intake.failure or self._failure
        if error is not None:
            raise self._with_report(not_an_end(error))

    def _break_off(self, error: BaseException) -> None:
        self.stop("interrupted" if isinstance(error, KeyboardInterrupt) else "strategy_failed")
        self._end()
        self._with_report(error)

    def _with_report(self, error: BaseException) -> BaseException:
        with suppress(AttributeError):  # an exception with slots; its report stays with the stream
            error.report = self.report  # type: ignore[attr-defined]
        return error

    def interrupt(self, signum: int) -> None:
        """Stop because of a signal: the end of the stream raises RunInterrupted."""
        self._interrupted_by = signum
        self.stop("interrupted")

    def stop(self, why: str = "closed") -> None:
        """Ask the run to stop, from any thread, without waiting for it.

        Args:
            why: what the report says.
        """
        if self._over:
            return
        if self._stopped is None:
            self._stopped = why
        self._closing = True
        self._intake.close()

    def close(self) -> None:
        """Stop the run, from any thread, and wait until everything announced is settled.

        Called by a listener of this run it only asks: the run ends when the listener has returned.
        """
        self.stop()
        if self._in_listener:
            return
        with self._turn:
            self._reader = threading.get_ident()
            try:
                self._drain()
            finally:
                self._reader = 0

    @property
    def _in_listener(self) -> bool:
        return self._reader == threading.get_ident() or self._announcer.telling_here

    def _drain(self) -> None:
        if self._over:
            return
        if not self._begun:
            close = getattr(self._answers, "close", None)
            if close is not None:
                close()
            self._end()
            return
        try:
            for outcome in self._answers:
                if self._settle(outcome):
                    self._kept_back.append(outcome)
        finally:
            self._end()

    @property
    def report(self) -> Report:
        """Report on the run: whole once it is over, of what is known so far before.

        It holds the outcomes that were not handed out, and those that were
        unless there were more than ``keep`` (10,000) of them; ``counts`` are always of all.
        """
        return self._make_report() if self._report is None else self._report

    def collect(self) -> Report:
        """Read the stream to its end.

        Raises:
            BaseException: as iteration does.
        """
        for _ in self:
            pass
        return self.report

    def values(self) -> list[Any]:
        """Read the stream to its end and give the values, in input order.

        Raises:
            BaseException: as iteration does.
            ExceptionGroup: tasks failed, and ``on_error`` was not ``"raise"``.
        """
        return self.collect().values

    def __enter__(self) -> Self:
        """Give the stream itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        self.close()

    def __del__(self) -> None:
        """Stop the run of a stream that was dropped."""
        if not getattr(self, "_over", True):
            self.stop("dropped")


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


def _warn_once_of_late_binding(call: object) -> None:
    warnings.warn(late_binding_advice(call), LateBindingWarning, stacklevel=2)


def _log_stray(outcome: Outcome) -> None:
    _log.warning(
        "stray_outcome: a strategy answered for task %r, which it was not given or has answered "
        "already; the answer is dropped",
        outcome.key,
    )


def _index(outcome: Outcome) -> int:
    return outcome.index
