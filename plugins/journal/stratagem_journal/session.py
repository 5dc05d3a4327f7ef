"""One stream of a journal at work: tasks go in once written, outcomes come out once written."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
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
    TransportError,
    thread_context,
)
from stratagem_journal import failpoints
from stratagem_journal.codecs import Codec
from stratagem_journal.errors import JournalError, ValueRefusedError
from stratagem_journal.fingerprints import Fingerprints
from stratagem_journal.gate import Gate
from stratagem_journal.policy import Policy
from stratagem_journal.recall import Recall, encode_failure
from stratagem_journal.schema import BEGIN, END, LEAVE, digest
from stratagem_journal.store import Entry, Store

__all__ = ["Session", "Terms"]

UNREAD = 128
UNWRITTEN = 128
HURRY_PATIENCE = 1.0
"""Seconds that the inner strategy has to end once it is told to wait for nothing."""

KEY_BYTES = 512
SHOWN = 1024
KEYS_SHOWN = 10
_log = logging.getLogger("stratagem.journal")


@attrs.frozen
class Terms:
    """Hold how a journal is kept.

    Attributes:
        policy: what becomes of tasks that it knows.
        codec: writes and reads values.
        most_bytes: how large a value may be.
    """

    policy: Policy
    codec: Codec
    most_bytes: int


class Session:
    """Be the stream of the inner strategy, with a journal on both sides.

    A thread, the pump, reads that stream; the writer of the store puts what is on disk
    into the outbox, from which the consumer reads.

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
    ) -> None:
        self.tasks = tasks
        self.outbox = Outbox(UNREAD)
        self.failure: BaseException | None = None
        self._inner = inner
        self._store = store
        self._batch = batch
        self._terms = terms
        self._fingerprints = Fingerprints(store.salt)
        self._recall = Recall(store.path, terms.policy, terms.codec, self._fingerprints)
        self._gate = Gate(
            tasks,
            self._sifted,
            self._record_begin,
            self._is_full,
            most=_most_at_once(inner),
            look_up=store.has_rows,
        )
        self._context = thread_context()
        self._pump: threading.Thread | None = None
        self._pump_over = False
        self._room = threading.Semaphore(0)
        self._unwritten = threading.Semaphore(UNWRITTEN)
        self._counting = threading.Lock()
        self._on_the_way = 0
        self._given: dict[int, bytes | None] = {}
        self._awaits_room = False
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
        keys = self._store.reader.in_doubt(self._batch) if self._store.has_rows else []
        if keys:
            what = "run again" if self._terms.policy.in_doubt == "rerun" else "count as lost"
            shown = ", ".join(repr(key) for key in keys[:KEYS_SHOWN])
            more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
            _log.warning(
                "tasks_in_doubt: %d tasks had begun when the last run was cut off, and %s: %s%s",
                len(keys),
                what,
                shown,
                more,
            )

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return self._pump_over and not self._on_the_way and not self._gate.busy

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
        self._room.release()
        self._unwritten.release()
        return True

    def end(self) -> None:
        """Write down what was left, and see the pump off."""
        pump = self._pump
        if not (self._gone or pump is None or pump is threading.current_thread()):
            pump.join()
        left = self._gate.left()
        if self._broken:
            why = "the journal cannot be written, so it was not begun"
            self._kept += [_cancelled(task, why) for task in left]
        for task in left:
            columns = (self._batch, task.key, self._store.epoch)
            self._store.put(Entry(_NOBODY, LEAVE, columns))
        if isinstance(self.failure, JournalError):
            self.failure.outcomes = self._kept

    # What the gate calls, in whichever thread the inner strategy takes tasks.

    def _sifted(self, tasks: list[Task]) -> list[Task]:
        if not tasks:
            return tasks
        try:
            for task in tasks:
                _check_key(self._store.path, task)
            if not self._store.has_rows:
                return tasks
            known = self._recall.sort_out(tasks, self._rows_of)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            self._fail(error)
            return []
        for outcome in known.recalled:
            self.outbox.put(outcome)
        self.outbox.rouse()
        return known.to_run

    def _rows_of(self, keys: list[str]) -> dict[str, Any]:
        return self._store.reader.rows(self._batch, keys)

    def _record_begin(self, tasks: list[Task]) -> None:
        with self._counting:
            self._on_the_way += len(tasks)
        epoch, batch = self._store.epoch, self._batch
        for task in tasks:
            given = self._given[task.index] = self._fingerprints.of(task.call)
            columns = (batch, task.key, task.index, task.name, given, epoch)
            self._store.put(Entry(self, BEGIN, columns, task))

    def _is_full(self) -> bool:
        if not self.outbox.full:
            return False
        if not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(self._take_since_room)
        return True

    def _take_since_room(self) -> None:
        self._awaits_room = False
        self._gate.wake()

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
        task = self._gate.take_back(outcome.index)
        if task is None:  # it answers for what it was not given: the engine says so
            self.outbox.put(outcome)
            return
        if failpoints.reach is not None:
            failpoints.reach("ended")
        outcome, value, error = self._written(outcome)
        given = self._given.pop(task.index)  # of before it ran: a task may change what it has
        status, worker, attempts = str(outcome.status), outcome.worker, outcome.attempts
        started, seconds = float(outcome.started_at), float(outcome.seconds)
        whole = digest(
            (self._batch, attempts, started, seconds),
            (task.key, task.name, status, worker),
            (given, error, value),
        )
        number = next(self._store.sequence)
        ended = (status, number, started, seconds, worker, attempts, attempts, seconds)
        columns = (*ended, whole, error, value, self._batch, task.key, self._store.epoch)
        with self._counting:
            self._on_the_way += 1
        if not self._gone:
            self._unwritten.acquire()
        self._store.put(Entry(self, END, columns, outcome))
        if self.outbox.full:
            self.outbox.resume_when_room(self._room.release)
            if not self._gone:
                self._room.acquire()

    def _written(self, outcome: Outcome) -> tuple[Outcome, bytes | None, bytes | None]:
        """Give an outcome, its value and its error as they are written.

        A value that cannot be written makes it a failure, which shows the start of the value.
        """
        if not outcome.ok:
            return outcome, None, encode_failure(outcome.error)
        try:
            return outcome, self._encoded(outcome.value), None
        except Exception as error:  # noqa: BLE001 - the codec is the caller's
            problem = f"the journal cannot keep the value: {_said(error)}"
            refused = TransportError("encode_result", problem, shown=_shown(outcome.value))
            refused.__cause__ = error
        outcome = attrs.evolve(outcome, status=Status.ERROR, value=None, error=refused)
        return outcome, None, encode_failure(refused)

    def _encoded(self, value: object) -> bytes:
        written, most = self._terms.codec.encode(value), self._terms.most_bytes
        if len(written) > most:
            raise ValueRefusedError(
                f"takes {len(written)} bytes, more than max_value_bytes={most}; "
                "return less, or where it is stored"
            )
        return written

    # What the writer calls.

    def committed(self, entries: Sequence[Entry]) -> None:
        """Let tasks begin and outcomes go: they are on disk."""
        begun = [entry.subject for entry in entries if entry.statement is BEGIN]
        if len(begun) < len(entries):
            self._gate.settle(len(entries) - len(begun))
        for entry in entries:
            if entry.statement is END:
                self.outbox.put(entry.subject)
                self._unwritten.release()
        if begun:
            self._gate.release(begun)
        self._arrived(len(entries))

    def failed(self, error: JournalError) -> None:
        """Start no further task: nobody could tell later that it had begun."""
        self._broken = True
        self._fail(error)

    def unrecorded(self, entries: Sequence[Entry]) -> None:
        """Keep outcomes for the report; the tasks that were to begin do not."""
        for entry in entries:
            if entry.statement is END:
                self._kept.append(entry.subject)
                self._unwritten.release()
        self._arrived(len(entries))

    def _arrived(self, count: int) -> None:
        with self._counting:
            self._on_the_way -= count
        if not self._on_the_way:
            self.outbox.ring()
        else:
            self.outbox.rouse()

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self.tasks.close()
        self.outbox.ring()


def _most_at_once(strategy: object) -> int | None:
    """Tell how many tasks a strategy runs at once; None where neither it nor its inner one says."""
    for name in ("max_workers", "max_concurrency"):
        most = getattr(strategy, name, None)
        if isinstance(most, int):
            return most
    inner = getattr(strategy, "inner", None)
    return None if inner is None else _most_at_once(inner)


class _Nobody:
    """Be nobody to tell of what is written."""

    def committed(self, entries: Sequence[Entry]) -> None:
        """Let it be."""

    def failed(self, error: JournalError) -> None:
        """Let it be."""

    def unrecorded(self, entries: Sequence[Entry]) -> None:
        """Let it be."""


_NOBODY = _Nobody()


def _check_key(path: Path, task: Task) -> None:
    try:
        size = len(task.key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise JournalError(path, f"the key {task.key!r} is no Unicode text: {error}") from error
    if not 0 < size <= KEY_BYTES:
        raise JournalError(
            path, f"the key of input {task.index} has {size} bytes; a key has 1 to {KEY_BYTES}"
        )


def _cancelled(task: Task, why: str) -> Outcome:
    error = TaskCancelledError(task.key, why)
    return Outcome(
        task.index, task.key, task.name, Status.CANCELLED, None, error, parent=task.parent
    )


def _said(error: Exception) -> str:
    return (
        str(error) if isinstance(error, ValueRefusedError) else f"{type(error).__name__}: {error}"
    )


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except Exception as error:  # noqa: BLE001 - the value is the task's, and may raise anything
        return f"(its repr raised {type(error).__name__})"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
