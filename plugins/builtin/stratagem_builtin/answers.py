"""From what a worker wrote into its ring to the outcomes of its tasks."""

from collections.abc import Sequence
from marshal import loads as load_plain
from pickle import loads

from stratagem import Outcome, Status, Task
from stratagem.batch import Batch
from stratagem.invoke import failed, succeeded
from stratagem.transport import decode_error, unloadable, without_frames
from stratagem_builtin.handle import Handle
from stratagem_builtin.ring import Record, Records, record_at
from stratagem_builtin.worker import ERROR, PLAIN_VALUE

__all__ = ["answer"]


def answer(worker: Handle, records: Records) -> None:
    """Settle the tasks that a worker has finished."""
    numbers, kinds, *_ = records
    plain = kinds.count(PLAIN_VALUE) == len(kinds) and all(map(worker.sent.__contains__, numbers))
    at = 0
    while at < len(numbers):
        end = _end_of_run(worker, numbers, at) if plain else at
        if end > at:
            _answer_run(worker, records, slice(at, end))
        else:
            end = at + 1
            _answer_one(worker, record_at(records, at))
        at = end


def _end_of_run(worker: Handle, numbers: Sequence[int], at: int) -> int:
    """Tell up to where tasks were sent together, in one batch, with that at a place."""
    sent, number = worker.sent[numbers[at]], numbers[at]
    end = min(at + sent.first + len(sent.tasks) - number, len(numbers))
    follows = type(sent.tasks) is Batch and numbers[end - 1] - number == end - 1 - at
    return end if follows else at


def _answer_run(worker: Handle, records: Records, run: slice) -> None:
    """Settle plain results of one batch, without a step for each but that of the outcome."""
    numbers, _, started_at, seconds, bodies = records
    first = numbers[run.start]
    sent = worker.sent[first]
    stream, batch = sent.stream, sent.tasks
    assert isinstance(batch, Batch)
    for number in numbers[run]:
        del worker.sent[number]
    values, ran = map(load_plain, bodies[run]), seconds[run]
    stream.note_seconds(len(ran), sum(ran))
    stream.settle(batch.succeeded(first - sent.first, values, started_at[run], ran, worker.name))


def _answer_one(worker: Handle, record: Record) -> None:
    number = record[0]
    sent = worker.sent.pop(number, None)
    if sent is not None:
        outcome = _outcome_of(sent.task(number), record, worker.name)
        sent.stream.note_seconds(1, outcome.seconds)
        sent.stream.settle([outcome])


def _outcome_of(task: Task, record: Record, name: str) -> Outcome:
    _, kind, started_at, seconds, body = record
    try:
        value = (load_plain if kind == PLAIN_VALUE else loads)(body)
    except BaseException as error:  # noqa: BLE001 - code of the user; the task failed
        bare = without_frames(unloadable("decode_result", error))
        return failed(task, bare, Status.ERROR, started_at, seconds, name)
    if kind == ERROR:
        return failed(task, decode_error(value), Status.ERROR, started_at, seconds, name)
    return succeeded(task, value, started_at, seconds, name)
