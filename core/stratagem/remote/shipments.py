"""What travels between the owner of a run and workers elsewhere: tasks there, answers back.

Shipments and answers travel as bytes that only the two ends look into,
so that nothing which a task is made of, returns or raises can upset the engine between them.
"""

import pickle
from pickle import HIGHEST_PROTOCOL
from typing import Any

import attrs

from stratagem.errors import TransportError
from stratagem.invoke import failed, succeeded
from stratagem.task import Outcome, Status, Task
from stratagem.transport import decode, decode_error, encode_error, safe_repr, without_frames

__all__ = [
    "MISSING",
    "Answer",
    "Answers",
    "Function",
    "Shipment",
    "answer_of",
    "outcome_of",
    "pack",
    "unpack",
]

MISSING = "missing"
"""The status of a task that was not begun since its worker lacks the function that it calls."""

_OK = Status.OK


@attrs.frozen
class Function:
    """Be a function that many tasks call: it travels once, or with each shipment if it is small.

    Attributes:
        name: what both ends call it.
        pickled: the function; None where the worker should have it.
    """

    name: str
    pickled: bytes | None


@attrs.frozen
class Shipment:
    """Hold tasks on their way to a worker, which runs them one after the other.

    Attributes:
        stream: the number of the stream that they belong to.
        run_id: the id of their run.
        task_name: what they call, for people.
        attempt: which attempt it is of each.
        timeout: seconds that each may run, or None.
        tags: their tags.
        parent: the key of the task that led to them, or None.
        function: what is called with what is ``given``; None where that is the whole call.
        apart: whether each is to run in a process of its own.
        numbers: the number of this sending of each, by which answers name it.
        indices: the index of each.
        keys: the key of each.
        given: the pickled argument, or the pickled call, of each.
    """

    stream: int
    run_id: str
    task_name: str
    attempt: int
    timeout: float | None
    tags: frozenset[str]
    parent: str | None
    function: Function | None
    apart: bool
    numbers: tuple[int, ...]
    indices: tuple[int, ...]
    keys: tuple[str, ...]
    given: tuple[bytes, ...]


Answer = tuple[int, str, float, float, str, bytes]
"""What became of a task: its number, its status or ``MISSING``, when it began, how many seconds it
ran, who ran it, and its value or its error, described and pickled."""


@attrs.frozen
class Answers:
    """Hold what a worker answers to a shipment.

    Attributes:
        answers: one for each task that ended.
        given_back: the numbers of those that were not begun.
    """

    answers: tuple[Answer, ...] = ()
    given_back: tuple[int, ...] = ()


def pack(sent: Shipment | Answers) -> bytes:
    """Give what travels."""
    return pickle.dumps(attrs.astuple(sent, recurse=False), HIGHEST_PROTOCOL)


def unpack(kind: type[Any], travelled: bytes) -> Any:
    """Give the shipment, or the answers, back."""
    return kind(*pickle.loads(travelled))  # noqa: S301 - what the other end of the run has packed


def answer_of(number: int, outcome: Outcome, pickle_value: Any, most_bytes: int) -> Answer:
    """Describe an outcome so that it can travel.

    Args:
        number: the number of the sending.
        outcome: what became of it.
        pickle_value: pickles a value, or raises TransportError.
        most_bytes: a pickled value that is larger becomes an error.
    """
    status, error, body = outcome.status, outcome.error, b""
    if error is None:
        try:
            body = pickle_value(outcome.value, "encode_result")
            if len(body) > most_bytes:
                raise _too_large(len(body), most_bytes, outcome.value)
        except TransportError as refused:
            status, error = Status.ERROR, refused
    if error is not None:
        body = pickle.dumps(encode_error(error), HIGHEST_PROTOCOL)
    return number, str(status), outcome.started_at, outcome.seconds, outcome.worker, body


def outcome_of(task: Task, answer: Answer) -> Outcome:
    """Give the outcome that a worker has described."""
    _, status, started_at, seconds, worker, body = answer
    try:
        value = decode(body, "decode_result")
    except TransportError as error:
        unread = without_frames(error)
        return failed(task, unread, Status.ERROR, started_at, seconds, worker)
    if status == _OK:
        return succeeded(task, value, started_at, seconds, worker)
    return failed(task, decode_error(value), Status(status), started_at, seconds, worker)


def _too_large(size: int, most: int, value: object) -> TransportError:
    return TransportError(
        "encode_result",
        f"the result has {size} bytes pickled, more than max_result_bytes={most}; "
        "return less, or allow more",
        shown=safe_repr(value),
    )
