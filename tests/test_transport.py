"""What crosses a process border: any value, call and exception, or an error that says why not."""

import asyncio
import pickle
import subprocess
import sys
import threading

import cloudpickle
import pytest

from stratagem import RemoteError, TransportError
from stratagem.transport import (
    CHAIN,
    MESSAGE,
    PICKLED_ERROR,
    TRACEBACK,
    cut,
    decode,
    decode_error,
    encode,
    encode_error,
    safe_repr,
    safe_str,
)


class TwoPartError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}/{second}")
        self.second = second


class PlainError(Exception):
    pass


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__(code)
        self.code = code

    def __setattr__(self, name, value):
        if name == "remote_traceback":
            raise AttributeError(name)
        super().__setattr__(name, value)


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class ChangingError(Exception):
    """Come back from a pickle with another message."""

    def __reduce__(self):
        return (type(self), ("something else",))


class ExitingError(Exception):
    """End the interpreter that loads its pickle, if nobody looks out."""

    def __reduce__(self):
        return (sys.exit, (3,))


def raised(error, *, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def crossed(error):
    """Send an error across: what arrives is plain data until it is rebuilt."""
    return decode_error(pickle.loads(pickle.dumps(encode_error(error))))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("key"),
        PlainError("plain", 2),
        FileNotFoundError(2, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(4),
        asyncio.CancelledError("why"),
        TransportError("decode_task", "it does not fit"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_pickles_arrives_as_itself(error):
    """Type, arguments and message are those of the original, so it can be caught by its type."""
    arrived = crossed(raised(error))

    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)
    assert "raise error from cause" in arrived.remote_traceback


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TwoPartError("one", 2), "one/2"),
        (ChangingError("as it was"), "as it was"),
        (ExitingError("out"), "out"),
        (PlainError(threading.Lock()), "<unlocked _thread.lock"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_an_error_that_cannot_be_rebuilt_arrives_described(error, message):
    """What its pickle would break or change arrives as RemoteError with its name and bases."""
    arrived = crossed(raised(error))

    assert type(arrived) is RemoteError
    assert arrived.message.startswith(message)
    assert arrived.bases == (
        f"{__name__}.{type(error).__qualname__}",
        "Exception",
        "BaseException",
    )


def test_a_described_error_keeps_its_plain_attributes():
    """Numbers, texts and the like are attributes still; what is no plain data stays behind."""
    error = TwoPartError("one", 2)
    error.status_code, error.lock, error.text = 418, threading.Lock(), "x" * (MESSAGE + 1)
    arrived = crossed(error)

    assert (arrived.second, arrived.status_code) == (2, 418)
    assert arrived.text == "x" * MESSAGE + f"... (cut, {MESSAGE + 1} characters)"
    assert not hasattr(arrived, "lock")
    assert pickle.loads(pickle.dumps(arrived)).status_code == 418


def test_an_error_that_cannot_say_what_it_is_arrives():
    """An exception whose ``str`` raises arrives as itself, and is described without it."""
    error = raised(SilentError("mute"))

    assert encode_error(error)["message"] == "<str() failed: RuntimeError>"
    assert type(crossed(error)) is SilentError
    assert crossed(error).args == ("mute",)


def test_an_error_with_slots_arrives():
    """An exception that takes no further attribute arrives without its remote traceback."""
    arrived = crossed(raised(SlottedError(7)))

    assert type(arrived) is SlottedError
    assert arrived.code == 7


def test_cause_context_and_notes_arrive():
    """The chain of an exception is rebuilt link by link, each with its notes."""
    inner = raised(TwoPartError("root", 1))
    inner.add_note("of the root")
    outer = raised(ValueError("outer"), cause=inner)
    outer.add_note("of the outer")
    arrived = crossed(outer)

    assert type(arrived) is ValueError
    assert arrived.__notes__ == ["of the outer"]
    assert type(arrived.__cause__) is RemoteError
    assert arrived.__cause__.second == 1
    assert arrived.__cause__.__notes__ == ["of the root"]
    assert arrived.__suppress_context__


def test_a_context_without_a_cause_arrives():
    """What was being handled when the error was raised comes along."""
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")
    except ValueError as error:
        arrived = crossed(error)

    assert type(arrived.__context__) is KeyError
    assert arrived.__cause__ is None
    assert not arrived.__suppress_context__


def test_a_chain_that_bites_its_own_tail_arrives():
    """A cycle of causes ends where it closes."""
    one, two = PlainError("one"), PlainError("two")
    one.__cause__, two.__cause__ = two, one
    arrived = crossed(one)

    assert str(arrived.__cause__) == "two"
    assert arrived.__cause__.__cause__ is None


def test_an_endless_chain_is_cut():
    """Of a very long chain the nearest links arrive."""
    error = PlainError("0")
    for number in range(1, 1_000):
        error = raised(PlainError(str(number)), cause=error)
    arrived = crossed(error)

    messages = []
    while arrived is not None:
        messages.append(str(arrived))
        arrived = arrived.__cause__
    assert messages == [str(number) for number in range(999, 999 - CHAIN - 1, -1)]


def test_a_group_arrives_with_all_its_parts():
    """Each part of a group is rebuilt by itself, groups within groups too."""
    group = ExceptionGroup(
        "outer",
        [
            ValueError("one"),
            ExceptionGroup("inner", [TwoPartError("two", 2), KeyError("three")]),
        ],
    )
    arrived = crossed(raised(group))

    assert type(arrived) is ExceptionGroup
    assert arrived.message == "outer"
    assert [type(part) for part in arrived.exceptions] == [ValueError, ExceptionGroup]
    assert [type(part) for part in arrived.exceptions[1].exceptions] == [RemoteError, KeyError]


def test_a_group_keeps_the_part_that_is_also_its_cause():
    """A group raised from one of its own parts arrives with that part."""
    part = ValueError("one")
    arrived = crossed(raised(ExceptionGroup("several", [part, KeyError("two")]), cause=part))

    assert [type(one) for one in arrived.exceptions] == [ValueError, KeyError]


@pytest.mark.parametrize("size", [MESSAGE, MESSAGE + 1, 10_000_000])
def test_a_message_is_cut_to_a_bound(size):
    """A message of ten megabytes arrives as its start, a mark, and its length."""
    described = encode_error(TwoPartError("x" * size, 1))

    whole = f"{'x' * size}/1"
    assert described["message"] == (whole[:MESSAGE] + f"... (cut, {len(whole)} characters)")
    assert described["pickle"] is None
    assert len(pickle.dumps(described)) < 4 * MESSAGE


def test_an_error_that_is_large_arrives_described():
    """An exception whose own pickle is beyond the bound crosses as its description alone."""
    described = encode_error(PlainError("x" * (PICKLED_ERROR + 1)))

    assert described["pickle"] is None
    assert type(decode_error(described)) is RemoteError


def test_a_deep_traceback_is_cut():
    """The formatted traceback of a deep recursion stays within its bound."""

    def fall(depth):
        fall(depth - 1) if depth else fall_differently()

    def fall_differently():
        raise ValueError("the bottom")

    def stumble(depth):
        return fall(5) if not depth else stumble_on(depth)

    def stumble_on(depth):
        return stumble(depth - 1)

    try:
        stumble(300)
    except ValueError as error:
        described = encode_error(error)

    assert described["traceback"].endswith("characters)")
    assert len(described["traceback"]) < TRACEBACK + 50


def test_a_pickle_that_does_not_load_here_falls_back_on_the_description():
    """What proved to load there and does not load here arrives as RemoteError."""
    described = encode_error(PlainError("from afar"))
    described["pickle"] = b"\x80\x05 this is no pickle"
    arrived = decode_error(described)

    assert type(arrived) is RemoteError
    assert arrived.message == "from afar"
    assert arrived.type_name == f"{__name__}.PlainError"


def test_a_pickle_of_something_else_falls_back_on_the_description():
    """A pickle that gives no exception is not raised."""
    described = encode_error(PlainError("from afar"))
    described["pickle"] = pickle.dumps("no exception")

    assert type(decode_error(described)) is RemoteError


def test_calls_that_pickle_cannot_name_travel_by_value():
    """Lambdas, closures and local functions cross with what they close over."""
    number = 20
    sent = encode(lambda item: item + number, "encode_task")

    assert decode(sent, "decode_task")(1) == 21


class Keeper:
    def __init__(self):
        self.lock = threading.Lock()

    def call(self):
        return 1


@pytest.mark.parametrize("value", [Keeper().call, threading.Lock(), sys.stderr, (n for n in ())])
def test_what_cannot_be_pickled_is_a_transport_error(value):
    """The error names the stage, the type and the reason, and keeps the original as its cause."""
    with pytest.raises(TransportError, match="cannot be pickled") as caught:
        encode(value, "encode_task")

    assert caught.value.stage == "encode_task"
    assert type(value).__qualname__ in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_result_that_cannot_be_pickled_is_shown():
    """What was paid for is not wholly lost: the start of its ``repr`` stands in the error."""
    with pytest.raises(TransportError) as caught:
        encode(["the answer is 42", threading.Lock()], "encode_result")

    assert caught.value.shown.startswith("['the answer is 42', ")
    assert caught.value.shown in str(caught.value)


@pytest.mark.parametrize("pickled", [b"", b"nonsense", pickle.dumps(1)[:-1]])
def test_what_does_not_load_is_a_transport_error(pickled):
    """Broken bytes are an error of their stage."""
    with pytest.raises(TransportError, match="cannot be unpickled") as caught:
        decode(pickled, "decode_task")

    assert caught.value.stage == "decode_task"


def test_a_pickle_that_would_end_the_interpreter_is_a_transport_error():
    """Even SystemExit out of a pickle costs no more than the one that is loaded."""

    class Bomb:
        def __reduce__(self):
            return (sys.exit, (3,))

    with pytest.raises(TransportError, match="SystemExit: 3"):
        decode(pickle.dumps(Bomb()), "decode_result")


def test_words_that_cannot_be_had_are_replaced():
    """``str`` and ``repr`` that raise, or are too long, do no harm."""

    class Mute:
        def __repr__(self):
            raise SystemExit

    assert safe_str(SilentError()) == "<str() failed: RuntimeError>"
    assert safe_repr(Mute()) == "<repr() failed: SystemExit>"
    assert cut("x" * 12, 10) == "xxxxxxxxxx... (cut, 12 characters)"
    assert cut("x" * 10, 10) == "x" * 10


def test_functions_of_a_session_travel_by_value():
    """What is defined in ``python -c`` or on stdin, where no worker can import it, crosses."""
    text = "from stratagem.transport import encode\ndef f(): return 42\nprint(encode(f, '').hex())"
    printed = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    ).stdout

    assert decode(bytes.fromhex(printed), "decode_task")() == 42


def test_plain_pickle_goes_first():
    """Importable functions travel by name, which costs a few bytes."""
    assert encode(pickle.dumps, "encode_task") == pickle.dumps(
        pickle.dumps, pickle.HIGHEST_PROTOCOL
    )
    assert len(encode(pickle.dumps, "encode_task")) < len(cloudpickle.dumps(lambda: 1))
