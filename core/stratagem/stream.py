"""The pipeline of a run: number the input into tasks, announce, execute, settle."""

import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from threading import get_ident
from types import TracebackType
from typing import Any, Self

import attrs

from stratagem.consuming import Outcomes
from stratagem.errors import (
    RunInterrupted,
    TaskCancelledError,
    TaskLostError,
)
from stratagem.expansion import ExpansionIntake
from stratagem.family import Family
from stratagem.intake import Intake, input_read_here, outside_of_inputs
from stratagem.invoke import failed
from stratagem.loops import a_loop_runs, running_on
from stratagem.numbering import Entry, Numbering
from stratagem.opening import open_intake
from stratagem.outbox import Outbox
from stratagem.plan import Plan
from stratagem.report import Report
from stratagem.run import Announcer, Run
from stratagem.scope import Children, CurrentTask, Scope, is_given_up, run_scope
from stratagem.signals import struck
from stratagem.snapshot import Snapshot, running_tasks
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Outcome, Status, Task
from stratagem.threads import not_an_end
from stratagem.verdict import type_name, verdict_on
from stratagem.watch import Watch

__all__ = ["Stream"]

KEEP = 10_000
AT_ONCE = 64
"""How many outcomes that wait already are settled in one turn, before the caller has seen them."""
_log = logging.getLogger("stratagem")
OK = Status.OK
UNSEEN = frozenset({str, tuple})
"""The types of entries of the ledger that stand for tasks nobody asks for, unless they fail."""


class Stream(Iterator[Outcome]):
    """Be the outcomes of a run, as tasks end.

    Iterate over it, in a ``with`` block where you may leave early:
    closing it starts no further task, gives those in flight the grace of their strategy,
    and settles every task that was announced.

    Attributes:
        run: the run, as listeners see it.
        ending: whether what is left to do is only to settle and to report.
        unwatched: where outcomes come from, if nobody is told of those that succeed; else None.
        ready: what is settled and was not handed out; only for who reads the stream.
        is_awaited: whether a coroutine waits for the next outcome.
    """

    def __init__(
        self,
        plan: Plan,
        strategy: ExecutionStrategy,
        run: Run,
        announcer: Announcer,
        open_children: Callable[[Sequence[Callable[[], Any]]], Children],
        watch: Watch | None = None,
    ) -> None:
        self.run = run
        self._strategy = strategy
        self._watch = watch
        self._plan = plan
        self._announcer = announcer
        self._turn = threading.Lock()
        self._reader = 0
        self._begun = 0.0
        self._closing = False
        self._stopped: str | None = None
        self._reason = ""
        self._last_failure: Outcome | None = None
        self._interrupt: BaseException | None = None
        self._interrupted_by: int | None = None
        self._failure: Exception | None = None
        self._succeeded = 0
        self._failures: Counter[Status] = Counter()
        self._handed_out: list[Outcome] | None = []
        self._kept_back: list[Outcome] = []
        self._report: Report | None = None
        self._family = Family()
        outer = run_scope.get()
        with running_on(None), outside_of_inputs():
            self._context = context = copy_context()
        context.run(run_scope.set, Scope(run.id, open_children, self._family))
        parent = None if run.parent is None else run.parent.key
        self._numbering = numbering = Numbering(plan, announcer, context, parent)
        self._ledger = numbering.ledger
        self._expansion: ExpansionIntake | None = None
        self._intake: Intake
        if plan.growth is None:
            self._intake = open_intake(plan.items, numbering.maker(), context, numbering.batcher())
        else:
            self._intake = self._expansion = plan.growth.open_intake(
                plan.items, numbering.make, context
            )
        answers = strategy.stream(self._intake)
        self._answers = iter(answers)
        self.unwatched: Outcomes | None = None
        if isinstance(answers, Outcomes) and not numbering.keeps_tasks:
            self.unwatched = answers
        self.ready: deque[Outcome] = deque()
        self.is_awaited = False
        self._over = self.ending = False
        run._look = _weakly(self)
        self._kin: Family | None = None
        if run.parent is not None and outer is not None:
            self._join(outer.family, run.parent)

    def _join(self, kin: Family, parent: CurrentTask) -> None:
        self.parent_index = parent.index
        self.is_nested = self._plan.parent_key is not None
        self._kin = kin
        self._kin.join(self)
        if is_given_up():
            self.stop("parent_stopped")

    def __iter__(self) -> Iterator[Outcome]:  # noqa: PYI034 - calls of `next` cost twice as much
        """Give the outcomes that are not read yet, as tasks end; raises as ``next`` does.

        It is a generator over the stream: leave it and go on with another where you like.
        """
        ready = self.ready
        while True:
            while ready and not self._closing:
                try:
                    outcome = ready.popleft()
                except IndexError:  # another thread that reads has taken it
                    break
                yield outcome
            following = self._read_on()
            if following is None:
                return
            yield following

    def __next__(self) -> Outcome:
        """Give the next outcome.

        Raises:
            BaseException: what the input raised, or the first failure under ``on_error="raise"``,
                once everything that ran is settled; the partial report is its ``report``.
        """
        for outcome in self:
            return outcome
        raise StopIteration

    def _read_on(self) -> Outcome | None:  # noqa: C901 - one frame
        """Wait for the next outcome; None at the end. What is ready beside it is settled, too."""
        me = get_ident()
        if me == self._reader or me == self._announcer.teller:  # noqa: PLR1714 - twice as fast
            raise RuntimeError("a listener cannot read the stream that it is called for")
        with self._turn:  # after a call of `acquire` an interrupt could strike before the `try`
            if self.ready and not self._closing:  # by another thread that reads
                with suppress(IndexError):  # a third one has taken it
                    return self.ready.popleft()
            self._reader = me
            try:
                if not self._begun:
                    self._begin()
                for outcome in self._answers:
                    entry = self._ledger.pop(outcome.index, None)
                    if type(entry) in UNSEEN and outcome.status is OK and not self._closing:
                        if self._handed_out is not None:
                            self._keep(outcome)
                        self._succeeded += 1
                        if self.unwatched is not None:
                            self._settle_waiting(self.unwatched.outbox, AT_ONCE)
                        return outcome
                    if (settled := self._settle_entry(entry, outcome)) is not None:
                        return settled
            except BaseException as error:
                self._break_off(error)
                raise
            else:
                self._finish()
                return None
            finally:
                self._reader = 0

    def take_waiting(self) -> list[Outcome]:
        """Give, without waiting, what has succeeded; for a reader on a loop, if ``unwatched``."""
        if self.unwatched is None or not self._begun or self._closing:
            return []
        if not self._turn.acquire(blocking=False):  # who has it may wait for what runs here
            return []
        try:
            self._settle_waiting(self.unwatched.outbox, self.unwatched.outbox.bound)
        finally:
            self._turn.release()
        taken = list(self.ready)
        self.ready.clear()
        return taken

    def _settle_waiting(self, outbox: Outbox, most: int) -> None:
        """Settle what waits to be read and has succeeded: nobody is told, so it needs no turn."""
        unread, pop = outbox.unread, self._ledger.pop
        fresh: list[Outcome] = []
        try:
            for _ in range(min(len(unread), most)):
                outcome = unread.popleft()
                if outcome.status is not OK:
                    unread.appendleft(outcome)
                    break
                if pop(outcome.index, None) is None:
                    _log_stray(outcome)
                else:
                    fresh.append(outcome)
        finally:
            self._succeeded += len(fresh)
            self.ready.extend(fresh)  # from now on other threads that read may take them
            if self._handed_out is not None:
                self._handed_out.extend(fresh)
                self._forget_too_many(self._handed_out)
        if outbox.awaited and len(unread) <= outbox.half:
            outbox.resume()

    def _begin(self) -> None:
        self._begun = time.perf_counter()
        reader = input_read_here()
        if reader is not None:
            reader.stages.add(self, self.stop)
        self._announcer.tell("stratagem_before_run")
        if self._watch is not None and self._plan.stall_after is not None:
            self._watch.add(self, self._plan.stall_after)

    def _settle(self, outcome: Outcome) -> Outcome | None:
        """Settle the task of an outcome; give the outcome as it is to be handed out, if it is."""
        return self._settle_entry(self._ledger.pop(outcome.index, None), outcome)

    def _settle_entry(self, entry: Entry | None, outcome: Outcome) -> Outcome | None:
        if entry is None:
            _log_stray(outcome)
            return None
        task = self._numbering.entered(outcome.index, entry)
        if self._expansion is not None:
            outcome = self._expansion.opened(outcome)
        handed_out = not self._closing
        if outcome.status == OK:
            self._keep(outcome, handed_out=handed_out)
            self._succeeded += 1
            if self._announcer.after:
                self._announcer.tell_end_of_task(task, outcome)
        else:
            outcome = self._looked_into(task, outcome)
            self._settle_failure(task, outcome, handed_out=handed_out)
        if self._expansion is not None:
            self._expansion.grow(task)
        return outcome if handed_out else None

    def _settle_failure(self, task: Task, outcome: Outcome, *, handed_out: bool) -> None:
        self._keep(outcome, handed_out=handed_out)
        self._failures[outcome.status] += 1
        self._announcer.tell_end_of_task(task, outcome)
        self._note_failure(outcome)

    def _keep(self, outcome: Outcome, *, handed_out: bool = True) -> None:
        """Keep an outcome for the report, which holds all that were handed out, or none of them."""
        if not handed_out:
            self._kept_back.append(outcome)
        elif self._handed_out is not None:
            self._handed_out.append(outcome)
            self._forget_too_many(self._handed_out)

    def _forget_too_many(self, kept: list[Outcome]) -> None:
        """Hold none of what was handed out once that is more than the run keeps."""
        if self._plan.keep is not None and len(kept) - len(self.ready) > self._plan.keep:
            self._handed_out = None

    @property
    def _counts(self) -> Counter[Status]:
        succeeded = {OK: self._succeeded} if self._succeeded else {}
        return Counter(succeeded | self._failures)

    def _looked_into(self, task: Task, outcome: Outcome) -> Outcome:
        """Give a failed outcome as what it is: one that came of stopping the run is cancelled."""
        if outcome.status != Status.ERROR:
            self._family.orphan(outcome.index)
            return outcome
        is_struck = struck(task, outcome, shares_memory=self._strategy.shares_memory)
        if is_struck and not self._closing:
            self._interrupt = outcome.error
        elif not is_struck and not (
            self._closing and isinstance(outcome.error, TaskCancelledError)
        ):
            return outcome
        error = TaskCancelledError(outcome.key, "the run was stopped while it ran")
        error.__cause__ = outcome.error
        return attrs.evolve(outcome, status=Status.CANCELLED, error=error)

    def _note_failure(self, outcome: Outcome) -> None:
        self._last_failure = outcome
        if self._closing:
            return
        if self._interrupt is not None:
            raise self._interrupt
        verdict = verdict_on(outcome, self._plan, self._failures.total())
        if verdict is not None:
            self._reason, self._failure = verdict.reason, verdict.error
            self.stop(verdict.stopped)

    def _end(self, *, wait: bool = True) -> None:
        """Settle what no answer came for, and make the report.

        Args:
            wait: whether to wait for the streams that the input reads, which are stopped.
        """
        self.ending = True
        for index in sorted(self._ledger):
            self._closing = True
            task = self._numbering.entered(index, self._ledger[index])
            self._settle(self._unanswered(task))
        self._hand_out_no_more()
        self._over = True
        whole = self._counts.total() == self.run.total and not self._failures[Status.CANCELLED]
        if self._stopped == "closed" and whole:
            self._stopped = None
        if self._intake.failure is not None:
            struck_here = type(self._intake.failure) is KeyboardInterrupt
            self._stopped = "interrupted" if struck_here else "input_failed"
        elif self._stopped is None and not self._read_to_its_end:
            self._stopped = self._intake.bound or "strategy_ended"
        self._report = self._make_report()
        if self._begun:
            self._announcer.tell("stratagem_after_run", report=self._report)
        self._intake.close()
        if self._watch is not None:
            self._watch.remove(self)
        if self._kin is not None:
            self._kin.leave(self)
        if wait:
            self._intake.settle_stages()

    def _hand_out_no_more(self) -> None:
        """Keep for the report what is settled and nobody has taken."""
        if self._handed_out is not None:
            self._forget_too_many(self._handed_out)
        if self._handed_out is None:
            self._kept_back.extend(self.ready)
        self.ready.clear()

    @property
    def _read_to_its_end(self) -> bool:
        return self._intake.exhausted or self._counts.total() == self.run.total

    def _unanswered(self, task: Task) -> Outcome:
        if self._stopped is not None:
            return failed(task, TaskCancelledError(task.key), Status.CANCELLED)
        error = TaskLostError(task.key, "its strategy ended without an answer for it")
        return failed(task, error, Status.LOST)

    def _make_report(self) -> Report:
        outcomes = sorted((*(self._handed_out or ()), *self._kept_back), key=_index)
        seconds = time.perf_counter() - self._begun if self._begun else 0.0
        return Report(
            outcomes,
            self._counts,
            seconds,
            self._stopped,
            self._announcer.failures,
            self.run.id,
            self._intake.unfollowed,
            self._reason,
        )

    def _finish(self) -> None:
        if not self._over:
            self._end()
            self._raise_what_ended_it()

    def _raise_what_ended_it(self) -> None:
        if self._interrupted_by is not None:
            raise RunInterrupted(self._interrupted_by, self.report)
        error = self._intake.failure or self._failure
        if error is None and self._stopped == "parent_stopped" and self.run.parent is not None:
            why = "the task that started this run was stopped"
            error = TaskCancelledError(self.run.parent.key, why)
        if error is not None:
            raise self._with_report(not_an_end(error))

    def _break_off(self, error: BaseException) -> None:
        self.ending = True
        interrupted = isinstance(error, KeyboardInterrupt)
        self.stop("interrupted" if interrupted else "strategy_failed")
        try:
            if interrupted:
                self._settle_rest(error)
            else:
                self._settle_carried(error)
        finally:
            self._end(wait=not interrupted)
        if interrupted and self._interrupted_by is not None:
            raise RunInterrupted(self._interrupted_by, self.report) from error
        self._with_report(error)

    def _settle_rest(self, interrupt: BaseException) -> None:
        """Settle what had ended when an interrupt struck, and give up what still runs."""
        self.hurry()
        with suppress(BaseException):  # what the strategy raises now: the interrupt goes first
            for outcome in (*getattr(interrupt, "outcomes", ()), *self._answers):
                self._settle(outcome)

    def _settle_carried(self, failure: BaseException) -> None:
        """Settle what had ended and the strategy, which has failed, could not hand on."""
        for outcome in getattr(failure, "outcomes", ()):
            if isinstance(outcome, Outcome):
                self._settle(outcome)

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
        self._family.stop()

    def hurry(self) -> None:
        """Ask a run that is being stopped, from any thread, to wait for nothing that still runs."""
        self.stop("interrupted")
        if not self._over:
            self._intake.hurry()
            self._family.hurry()
            stages = getattr(self._intake, "stages", None)
            if stages is not None:
                stages.hurry()

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
        except KeyboardInterrupt as interrupt:
            self._settle_rest(interrupt)
            raise
        finally:
            self._end(wait=self._stopped != "dropped")

    @property
    def report(self) -> Report:
        """Report on the run: whole once it is over, of what is known so far before.

        It holds the outcomes that were not handed out, and those that were
        unless there were more than ``keep`` (10,000) of them; ``counts`` are always of all.
        """
        return self._make_report() if self._report is None else self._report

    def snapshot(self) -> Snapshot:
        """Say what the run is doing right now, or was when it ended; from any thread."""
        begun = self._begun
        report = self._report
        running = () if self._over else running_tasks(self._strategy, self._context)
        return Snapshot(
            self.run.id,
            self.run.name,
            self.run.total,
            max(0, len(self._ledger) - len(running)),
            running,
            self._counts,
            report.seconds if report else time.perf_counter() - begun if begun else 0.0,
            self._stopped,
            self._strategy.stop_grace,
            self._awaits_input,
            not (self._reader or self.is_awaited or self._over),
            tuple(child.snapshot() for child in self._family.members if isinstance(child, Stream)),
        )

    @property
    def _awaits_input(self) -> bool:
        starved = getattr(self._intake, "_starved", False)
        return starved and not (self._intake.exhausted or self._closing)

    @property
    def succeeded(self) -> int:
        """Count the tasks that succeeded, and those in the runs that they started."""
        return self._succeeded + self._family.count_succeeded()

    @property
    def failed(self) -> int:
        """Count the tasks that failed."""
        return self._failures.total()

    @property
    def last_error(self) -> str:
        """Name the type of the error of the last failure."""
        last = self._last_failure
        return "" if last is None or last.error is None else type_name(last.error)

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
        if a_loop_runs():  # what still runs may run on that loop, and cannot end while this waits
            with suppress(RuntimeError):  # the interpreter ends
                threading.Thread(target=self.close, name="stratagem-drop", daemon=True).start()
        elif self._turn.acquire(blocking=False):
            self._reader = get_ident()
            self._drain()


def _weakly(stream: Stream) -> Callable[[], Snapshot]:
    """Ask a stream without keeping it: a listener may hold its run for long."""
    reference = weakref.ref(stream)
    last = Snapshot(stream.run.id, stream.run.name, stream.run.total)

    def look() -> Snapshot:
        there = reference()
        return last if there is None else there.snapshot()

    return look


def _log_stray(outcome: Outcome) -> None:
    _log.warning(
        "stray_outcome: a strategy answered for task %r, which it was not given or has answered "
        "already; the answer is dropped",
        outcome.key,
    )


def _index(outcome: Outcome) -> int:
    return outcome.index
