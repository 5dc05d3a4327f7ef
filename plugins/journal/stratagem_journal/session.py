"""One stream of a journal at work: tasks go in once written, outcomes come out once written."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from copy import copy
from typing import Any

import attrs

from stratagem import (
    ExecutionStrategy,
    Outbox,
    Outcome,
    Status,
    Task,
    TaskCancelledError,
    TaskSource,
    thread_context,
)
from stratagem_journal import failpoints
from stratagem_journal.errors import JournalError
from stratagem_journal.fingerprints import Fingerprints
from stratagem_journal.gate import Begun, Gate
from stratagem_journal.policy import Policy
from stratagem_journal.reading import Finder
from stratagem_journal.recall import Recall
from stratagem_journal.schema import ALLOW, BEGIN, DOUBT, END, LEAVE
from stratagem_journal.scribe import KEY_BYTES, Scribe, check_key
from stratagem_journal.store import Store
from stratagem_journal.writing import Records

__all__ = ["Session", "Terms"]

UNREAD = 256
HURRY_PATIENCE = 1.0
"""Seconds that the inner strategy has to end once it is told to wait for nothing."""

KEYS_SHOWN = 10
_log = logging.getLogger("stratagem.journal")


@attrs.frozen
class Terms:
    """Hold how a journal is kept.

    Attributes:
        policy: what becomes of tasks that it knows.
        scribe: writes outcomes.
    """

    policy: Policy
    scribe: Scribe


class Session:
    """Be the stream of the inner strategy, with a journal on both sides.

    A thread, the pump, reads that stream; the writer of the store puts what is on disk
    into the outbox, from which the consumer reads.

    Args:
        inner: the strategy that runs the tasks.
        tasks: where tasks come from.
        store: where they are written.
        batch: the number of this stream among those that are open.
        terms: how the journal is kept.
        mark: leaves a mark in the context of its tasks, by which what they start is known.

    Attributes:
        tasks: where tasks come from.
        outbox: where outcomes go.
        failure: what ended the stream before its time; None for nothing.
    """

    def __init__(
        self,
        inner: ExecutionStrategy,
        tasks: TaskSource,
        store: Store,
        batch: int,
        terms: Terms,
        mark: Callable[[Context], None],
    ) -> None:
        self.tasks = tasks
        self.outbox = Outbox(UNREAD)
        self.failure: BaseException | None = None
        self._inner = inner
        self._store = store
        self._batch = batch
        self._policy = terms.policy
        self._scribe = terms.scribe
        self._mark = mark
        self._marked: Context | None = None
        self._finder = Finder(store.reader, batch) if store.has_rows else None
        self._recall = Recall(
            store.path,
            self._finder,
            terms.policy,
            terms.scribe.codec,
            Fingerprints(store.salt),
        )
        self._gate = Gate(tasks, self, most=_most_at_once(inner), look_up=self._finder is not None)
        self._context = thread_context()
        self._pump: threading.Thread | None = None
        self._pump_over = False
        self._begins = 0
        self._ends = 0
        self._done = 0
        self._awaits_room = False
        self._cut_off = False
        self._gone = False
        self._gives_up_at = 0.0
        self._broken = False
        self._kept: list[Outcome] = []

    # What the reader of the outcomes calls.

    def begin(self) -> None:
        """Begin to read the inner stream."""
        pump = threading.Thread(
            target=self._context.copy().run,
            args=(self._run,),
            name="stratagem-journal-pump",
            daemon=True,
        )
        try:
            self._tell_of_doubt()
            pump.start()
        except BaseException:
            self._pump_over = True
            raise
        self._pump = pump

    def _tell_of_doubt(self) -> None:
        keys = self._store.reader.in_doubt(self._batch) if self._finder is not None else []
        if keys:
            what = "run again" if self._policy.in_doubt == "rerun" else "count as lost"
            more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
            _log.warning(
                "tasks_in_doubt: %d tasks had begun when the last run was cut off, and %s: %s%s",
                len(keys),
                what,
                ", ".join(map(repr, keys[:KEYS_SHOWN])),
                more,
            )

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        if threading.current_thread() in {self._pump, self._store.thread}:
            return True  # it collects this stream as garbage, and cannot wait for itself
        if not self._pump_over or self._gate.busy:
            return False
        return self._done == self._begins + self._ends

    @property
    def whole(self) -> bool:
        """Tell whether all tasks there are went through, and nothing cut it off."""
        return self._gate.exhausted and not self._cut_off

    def stop(self, _give_up_at: float) -> None:
        """Leave it to the inner strategy, whose source is closed with ours."""

    def give_up(self) -> bool:
        """Answer for nothing: what the inner strategy ends late is in doubt; tell whether so."""
        now = time.monotonic()
        if not self._gives_up_at:
            self._gives_up_at = now + HURRY_PATIENCE
        if now < self._gives_up_at:
            return False
        self._gone = True
        return True

    def end(self) -> None:
        """Write down what was left, and see the pump off."""
        pump = self._pump
        if not (self._gone or pump is None or pump is threading.current_thread()):
            pump.join()
        left, out = self._gate.left()
        self._cut_off = self._cut_off or bool(left or out)
        if self._broken:
            why = "the journal cannot be written, so it was not begun"
            self._kept += [_cancelled(begun.task, why) for begun in left]
        self._put(LEAVE, [(begun.number,) for begun in left])
        self._put(DOUBT, [(self._store.epoch, begun.number) for begun in out])
        if self._kept and self.failure is not None:  # the engine takes them from there
            kept = [*getattr(self.failure, "outcomes", ()), *self._kept]
            with suppress(AttributeError):  # an exception with slots
                self.failure.outcomes = kept  # type: ignore[attr-defined]

    def _put(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self._store.put(Records(statement, rows))

    # What the gate calls, in whichever thread the inner strategy takes tasks.

    @property
    def full(self) -> bool:
        """Tell whether so many outcomes are unread that nothing more should begin."""
        if not self.outbox.full:
            return False
        if not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(self._take_since_room)
        return True

    def _take_since_room(self) -> None:
        self._awaits_room = False
        self._gate.wake()

    def sift(self, tasks: list[Task]) -> list[Begun]:
        """Hand out what is known of tasks, and give those to run."""
        try:
            for task in tasks:
                if not (task.key.isascii() and 0 < len(task.key) <= KEY_BYTES):
                    check_key(self._store.path, task)
                if task.context is not self._marked and task.context is not None:
                    self._mark(task.context)
                    self._marked = task.context
            known = self._recall.sort_out(tasks)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            self._fail(error)
            return []
        if known.recalled:
            self.outbox.unread.extend(known.recalled)
            self.outbox.rouse()
        return [Begun(0, task, given) for task, given in known.to_run]

    def record_begin(self, begun: list[Begun]) -> None:
        """Have it written that tasks begin."""
        batch, numbers = self._batch, self._store.numbers
        rows = []
        for one in begun:
            task, one.number = one.task, next(numbers)
            rows.append((one.number, task.index, batch, task.key, task.name, one.given))
        self._begins += 1
        self._store.put(Records(BEGIN, rows, self, begun))

    def record_allowance(self, most: int) -> None:
        """Have it written how many tasks may be out at once."""
        self._begins += 1
        self._store.put(Records(ALLOW, [(self._batch, most)], self, [most]))

    # The pump.

    def _run(self) -> None:
        try:
            for outcome in self._inner.stream(self._gate):
                self._record_end(outcome)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            self._fail(error)
        self._gate.close()
        self._pump_over = True
        self.outbox.ring()

    def _record_end(self, outcome: Outcome) -> None:
        if self._gone:  # it was answered for, and stays in doubt
            return
        begun = self._gate.take_back(outcome.index)
        if begun is None:  # it answers for what it was not given: the engine says so
            self.outbox.put(outcome)
            return
        if failpoints.reach is not None:
            failpoints.reach("ended")
        try:
            outcome, row = self._scribe.written(outcome, begun, self._batch, self._store.epoch)
        except BaseException:
            self._kept.append(outcome)
            raise
        self._cut_off = self._cut_off or outcome.status is Status.CANCELLED
        self._ends += 1
        self._store.put(Records(END, (row,), self, (outcome,)))

    # What the writer calls.

    def committed(self, records: Sequence[Records]) -> None:
        """Let tasks begin and outcomes go: they are on disk."""
        begun: list[Begun] = []
        ended = 0
        for some in records:
            if some.statement is END:
                self.outbox.unread.extend(some.subjects)
                ended += len(some.subjects)
            elif some.statement is BEGIN:
                begun += some.subjects
            else:
                self._gate.allow(*some.subjects)
        self._gate.go_on(begun, ended)
        self._arrived(records)

    def failed(self, error: JournalError) -> None:
        """Start no further task: nobody could tell later that it had begun."""
        self._broken = True
        own = copy(error)  # each stream's has its own outcomes
        own.__cause__ = error.__cause__
        self._fail(own)

    def unrecorded(self, records: Sequence[Records]) -> None:
        """Keep outcomes for the report; the tasks that were to begin do not."""
        for some in records:
            if some.statement is END:
                self._keep(some.subjects)
        self._arrived(records)

    def _keep(self, outcomes: Iterable[Outcome]) -> None:
        if self.tasks.hurried:  # an interrupt goes before the failure that would carry them
            for outcome in outcomes:
                self.outbox.put(outcome)
        else:
            self._kept += outcomes

    def _arrived(self, records: Sequence[Records]) -> None:
        self._done += len(records)
        if self._done == self._begins + self._ends:
            self.outbox.ring()
        else:
            self.outbox.rouse()

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self.tasks.close()
        self.outbox.ring()


def _most_at_once(strategy: ExecutionStrategy) -> int | None:
    """Tell how many tasks a strategy runs at once; None where it does not say."""
    for name in ("max_workers", "max_concurrency"):
        most = getattr(strategy, name, None)
        if type(most) is int and most > 0:
            return most
    return None


def _cancelled(task: Task, why: str) -> Outcome:
    error = TaskCancelledError(task.key, why)
    return Outcome(
        task.index, task.key, task.name, Status.CANCELLED, None, error, parent=task.parent
    )
