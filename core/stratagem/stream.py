"""The pipeline of a run: number the input into tasks, announce, execute, settle."""

import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from threading import get_ident
from types import TracebackType
from typing import Any, Self

from stratagem.errors import (
    RunInterrupted,
    TaskCancelledError,
    TaskLostError,
)
from stratagem.expansion import ExpansionIntake
from stratagem.intake import Intake, input_read_here, outside_of_inputs
from stratagem.invoke import failed
from stratagem.loops import running_on
from stratagem.numbering import Numbering
from stratagem.opening import open_intake
from stratagem.plan import Plan
from stratagem.report import Report
from stratagem.run import Announcer, Run
from stratagem.scope import Children, Scope, run_scope
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Outcome, Status, Task, raisable
from stratagem.threads import not_an_end

__all__ = ["Stream"]

KEEP = 10_000
_log = logging.getLogger("stratagem")
OK = Status.OK


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
        self._succeeded = 0
        self._failures: Counter[Status] = Counter()
        self._handed_out: deque[Outcome] = deque(maxlen=plan.keep)
        self._kept_back: list[Outcome] = []
        self._report: Report | None = None
        with running_on(None), outside_of_inputs():
            context = copy_context()
        context.run(run_scope.set, Scope(run.id, open_children))
        parent = None if run.parent is None else run.parent.key
        numbering = Numbering(plan, announcer, context, parent)
        self._ledger = numbering.ledger
        self._expansion: ExpansionIntake | None = None
        self._intake: Intake
        if plan.growth is None:
            self._intake = open_intake(plan.items, numbering.make, context)
        else:
            self._intake = self._expansion = plan.growth.open_intake(
                plan.items, numbering.make, context
            )
        self._answers = strategy.stream(self._intake)
        self._over = False

    def __iter__(self) -> Self:
        """Give the stream itself."""
        return self

    def __next__(self) -> Outcome:
        """Give the next outcome.

        Raises:
            BaseException: what the input raised, or the first failure under ``on_error="raise"``,
                once everything that ran is settled; the partial report is its ``report``.
        """
        me = get_ident()
        if me == self._reader or me == self._announcer.teller:  # noqa: PLR1714 - twice as fast
            raise RuntimeError("a listener cannot read the stream that it is called for")
        with self._turn:
            self._reader = me
            try:
                if not self._begun:
                    self._begin()
                for outcome in self._answers:
                    if (settled := self._settle(outcome)) is not None:
                        return settled
            except BaseException as error:
                self._break_off(error)
                raise
            else:
                self._finish()
            finally:
                self._reader = 0
        raise StopIteration

    def _begin(self) -> None:
        self._begun = time.perf_counter()
        reader = input_read_here()
        if reader is not None:
            reader.stages.add(self, self.stop)
        self._announcer.tell("stratagem_before_run")

    def _settle(self, outcome: Outcome) -> Outcome | None:
        """Settle the task of an outcome; give the outcome as it is to be handed out, if it is."""
        task = self._ledger.pop(outcome.index, None)
        if task is None:
            _log_stray(outcome)
            return None
        if self._expansion is not None:
            outcome = self._expansion.opened(outcome)
        handed_out = not self._closing
        (self._handed_out if handed_out else self._kept_back).append(outcome)
        if outcome.status == OK:
            self._succeeded += 1
            if self._announcer.after:
                self._announcer.tell_end_of_task(task, outcome)
        else:
            self._failures[outcome.status] += 1
            self._announcer.tell_end_of_task(task, outcome)
            self._note_failure(outcome)
        if self._expansion is not None:
            self._expansion.grow(task)
        return outcome if handed_out else None

    @property
    def _counts(self) -> Counter[Status]:
        succeeded = {OK: self._succeeded} if self._succeeded else {}
        return Counter(succeeded | self._failures)

    def _note_failure(self, outcome: Outcome) -> None:
        if self._closing:
            return
        if self._plan.on_error == "raise":
            self._failure = raisable(outcome)
            self.stop("on_error")
        elif self._failures.total() == self._plan.max_errors:
            self.stop("max_errors")

    def _end(self, *, wait: bool = True) -> None:
        """Settle what no answer came for, and make the report.

        Args:
            wait: whether to wait for the streams that the input reads, which are stopped.
        """
        for task in sorted(self._ledger.values(), key=lambda task: task.index):
            self._closing = True
            self._settle(self._unanswered(task))
        self._over = True
        whole = self._counts.total() == self.run.total and not self._failures[Status.CANCELLED]
        if self._stopped == "closed" and whole:
            self._stopped = None
        if self._intake.failure is not None:
            self._stopped = "input_failed"
        elif self._stopped is None and not self._read_to_its_end:
            self._stopped = self._intake.bound or "strategy_ended"
        self._report = self._make_report()
        if self._begun:
            self._announcer.tell("stratagem_after_run", report=self._report)
        self._intake.close()
        if wait:
            self._intake.settle_stages()

    @property
    def _read_to_its_end(self) -> bool:
        return self._intake.exhausted or self._counts.total() == self.run.total

    def _unanswered(self, task: Task) -> Outcome:
        if self._stopped is not None:
            return failed(task, TaskCancelledError(task.key), Status.CANCELLED)
        error = TaskLostError(task.key, "its strategy ended without an answer for it")
        return failed(task, error, Status.LOST)

    def _make_report(self) -> Report:
        handed_out = list(self._handed_out)
        total = self._counts.total()
        if self._plan.keep is not None and total - len(self._kept_back) > self._plan.keep:
            handed_out = []
        outcomes = sorted(itertools.chain(handed_out, self._kept_back), key=_index)
        seconds = time.perf_counter() - self._begun if self._begun else 0.0
        return Report(
            outcomes,
            self._counts,
            seconds,
            self._stopped,
            self._announcer.failures,
            self.run.id,
            self._intake.unfollowed,
        )

    def _finish(self) -> None:
        if not self._over:
            self._end()
            self._raise_what_ended_it()

    def _raise_what_ended_it(self) -> None:
        if self._interrupted_by is not None:
            raise RunInterrupted(self._interrupted_by, self.report)
        error = self._intake.failure or self._failure
        if error is not None:
            raise self._with_report(not_an_end(error))

    def _break_off(self, error: BaseException) -> None:
        self.stop("interrupted" if isinstance(error, KeyboardInterrupt) else "strategy_failed")
        if isinstance(error, KeyboardInterrupt):
            self._hurry(error)
        self._end(wait=not isinstance(error, KeyboardInterrupt))
        self._with_report(error)

    def _hurry(self, interrupt: KeyboardInterrupt) -> None:
        """Raise an interrupt where the strategy yielded, too, if it struck outside of it."""
        throw = getattr(self._answers, "throw", None)
        if throw is not None:
            with suppress(BaseException):
                throw(interrupt)

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
            self._reader = get_ident()
            try:
                self._drain()
            finally:
                self._reader = 0

    @property
    def _in_listener(self) -> bool:
        return self.is_read_in(get_ident())

    def is_read_in(self, ident: int) -> bool:
        """Tell whether that thread is busy with this stream, or with one that its input reads."""
        return ident in {self._reader, self._announcer.teller} or self._intake.is_read_in(ident)

    def _drain(self) -> None:
        if self._over:
            return
        try:
            if self._begun:
                for outcome in self._answers:
                    self._settle(outcome)
            elif (close := getattr(self._answers, "close", None)) is not None:
                close()
        finally:
            self._end(wait=self._stopped != "dropped")

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
        """Close a stream that was dropped, unless another thread is busy with it."""
        if getattr(self, "_over", True) or self._in_listener:
            return
        self.stop("dropped")
        if self._turn.acquire(blocking=False):
            self._reader = get_ident()
            self._drain()


def _log_stray(outcome: Outcome) -> None:
    _log.warning(
        "stray_outcome: a strategy answered for task %r, which it was not given or has answered "
        "already; the answer is dropped",
        outcome.key,
    )


def _index(outcome: Outcome) -> int:
    return outcome.index
