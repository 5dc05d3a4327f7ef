"""Values as JSON: what comes back is what was written, and what can't is refused by its path."""

import dataclasses
import math
from base64 import b64encode
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stratagem import Expansion
from stratagem_journal.codecs import read_codec
from stratagem_journal.errors import ValueRefusedError
from stratagem_journal.fingerprints import Fingerprints
from stratagem_journal.values import DEEPEST, dumps, loads

HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**4000, max_value=2**14000)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["\ud800", "$", "a\x00b", "\u202e"])
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones())
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False)
    | st.just(Path("a/b"))
    | st.just(PureWindowsPath("c:/b"))
    | st.just(PurePosixPath("/b"))
    | st.just(range(3, 9, 2))
    | st.just(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=7))))
)
VALUES = st.recursive(
    HASHABLE | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.just("$") | st.just("v"), inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
        | st.builds(Expansion, inner, st.lists(inner, max_size=3))
    ),
    max_leaves=12,
)

pytestmark = pytest.mark.once


def shape(value):
    """Give a form that differs where types or orders do, which ``==`` passes over."""
    kind = type(value)
    if kind in {list, tuple}:
        return (kind, [shape(part) for part in value])
    if kind is dict:
        return (kind, [(shape(key), shape(part)) for key, part in value.items()])
    if kind in {set, frozenset}:
        return (kind, sorted(map(repr, value)))
    if kind is Expansion:
        return (kind, shape(value.value), shape(value.items))
    if kind is int and abs(value) > 2**4000:
        return (kind, hex(value))
    return (kind, repr(value))


@settings(deadline=None)
@given(VALUES)
def test_what_comes_back_is_what_was_written(value):
    """Every value that is taken comes back of the same types, with the same content."""
    assert shape(loads(dumps(value))) == shape(value)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_ascii_and_the_same_each_time(value):
    """A value has one form, whatever order a set gives its members in."""
    written = dumps(value)

    assert written.isascii()
    assert dumps(loads(written)) == written


@settings(deadline=None)
@given(st.binary() | VALUES.map(dumps).flatmap(lambda w: st.just(w[: len(w) // 2])))
def test_what_was_never_written_is_no_value(written):
    """Bytes of any kind are read as a value or refused, and nothing else happens."""
    try:
        loads(written)
    except (ValueError, LookupError):
        return


def test_not_a_number_comes_back():
    """NaN has no JSON; it has a form here."""
    assert math.isnan(loads(dumps([float("nan")]))[0])


def test_integers_too_long_for_decimal_digits_come_back():
    """Python refuses to read more than 4,300 digits, so those are written in another base."""
    assert loads(dumps([-(2**20_000), 7**9_999])) == [-(2**20_000), 7**9_999]


class Text(str):
    """Be text of a type of its own, which would come back as plain text."""

    __slots__ = ()


class Colour(Enum):
    RED = 1


CYCLE = {}
CYCLE["self"] = CYCLE
DEEP = []
for _ in range(DEEPEST + 1):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "$"),
        ({"a": [1, {"b c": object()}]}, "$.a[1]['b c']"),
        ((1, {2: object()}), "$[1][0][1]"),
        ({"x": {1, object()}}, "$.x["),
        ([Text("a")], "$[0]"),
        ([Colour.RED], "$[0]"),
        ([True, len], "$[1]"),
        (CYCLE, "$.self.self"),
        (DEEP, "$[0][0]"),
        (Expansion(1, [object()]), "$[1][0]"),
        ([datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "home"))], "$[0]"),
    ],
)
def test_what_would_not_come_back_is_refused_by_its_path(value, path):
    """A part without a form of its own is named by the way to it."""
    with pytest.raises(ValueRefusedError) as caught:
        dumps(value)

    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    "written",
    [b'{"$":"object","v":["os.system","true"]}', b'{"$":"pickle","v":""}', b'{"$":"coded","v":1}'],
)
def test_a_kind_that_nobody_knows_is_refused(written):
    """What stands in a file never decides what is imported or made."""
    with pytest.raises(LookupError):
        read_codec(None).decode(written)


@pytest.mark.parametrize(
    "written",
    [
        b"NaN",
        b"",
        b"[1",
        b'{"$":"uuid","v":3}',
        b'{"$":"range"}',
        b'{"$":"bytes","v":"%"}',
        b'{"$":[],"v":1}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"$":"datetime","v":["2026-01-01",0,"../../etc/passwd"]}',
    ],
)
def test_damage_is_an_error_of_the_value(written):
    """Whatever was done to a value, reading it raises ValueError."""
    with pytest.raises(ValueError, match="."):
        loads(written)


@attrs.frozen
class Point:
    x: int
    seen: datetime


@dataclasses.dataclass
class Line:
    ends: list[Point]
    raw: bytes


class Answer(BaseModel):
    text: str
    score: float
    tags: set[str]


POINT = Point(3, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (Answer, Answer(text="yes", score=0.5, tags={"a", "b"})),
        (Answer, [{"nested": Answer(text="no", score=1, tags=set())}]),
        ((lambda point: [point.x], lambda parts: Point(parts[0], POINT.seen)), POINT),
        ((lambda value: {"$": value}, lambda parts: parts["$"]), (1, 2)),
    ],
)
def test_a_codec_brings_back_types_of_the_caller(codec, value):
    """A model, wherever it stands in a value, or a whole value by a pair of functions."""
    made = read_codec(codec)

    assert made.decode(made.encode(value)) == value


def test_a_codec_of_types_takes_classes_of_attrs_and_dataclasses():
    """It is cattrs that takes them apart and makes them again, with what is in them."""
    pytest.importorskip("cattrs")
    made = read_codec([Point, Line])

    assert made.decode(made.encode([Line([POINT], b"x"), POINT])) == [Line([POINT], b"x"), POINT]


def test_a_value_of_a_type_that_is_not_given_any_more_is_not_guessed():
    """Reading names the type that was written."""
    written = read_codec(Answer).encode(Answer(text="yes", score=1, tags=set()))

    with pytest.raises(LookupError, match="'Answer'; give that type as `codec`"):
        read_codec(None).decode(written)


@pytest.mark.parametrize("given", [3, "pickle", [], (len,), object(), [Colour]])
def test_a_codec_that_is_none_is_refused(given):
    """The message says what it may be."""
    with pytest.raises((TypeError, ValueError), match="codec"):
        read_codec(given)


def digest(call, salt=b"salt"):
    return Fingerprints(salt).of(call)[0]


def ask(*_given, **_named):
    """Be what tasks call."""


class Client:
    def ask(self, question):
        return question


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (partial(ask, 1), partial(ask, 2)),
        (partial(ask, 1), partial(ask, "1")),
        (partial(ask, 1), partial(ask, 1.0)),
        (partial(ask, [1]), partial(ask, (1,))),
        (partial(ask, 1), partial(ask, x=1)),
        (partial(ask, "a", model="b"), partial(ask, "a", model="c")),
        (lambda q="a": q, lambda q="b": q),
        (partial(ask, POINT), partial(ask, attrs.evolve(POINT, x=4))),
        (partial(ask, Colour.RED), partial(ask, 1)),
    ],
)
def test_other_inputs_have_other_fingerprints(one, other):
    """What is bound to a call differs by value, by type and by place."""
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: partial(ask, {"b": 1, "a": {2, 3}}, model="x"),
        lambda: partial(ask, Client(), "question"),
        lambda: partial(Client().ask, "question"),
        lambda: partial(ask, Answer(text="a", score=1, tags={"x", "y", "z"})),
        lambda: partial(ask, POINT, Colour.RED),
        lambda: ask,
    ],
)
def test_the_same_input_has_the_same_fingerprint(make):
    """Objects that are made anew each time count by what they hold, or by their type."""
    assert digest(make()) == digest(make()) is not None


def test_text_has_the_fingerprint_that_any_value_has():
    """The short way for the most frequent input leads to the same end."""
    text = 'a "quoted" \u2028 \ud800 one'

    assert digest(partial(ask, text)) == digest(partial(len, text)) is not None


def test_the_order_of_a_dict_does_not_count():
    """An input read from JSON again is the same input."""
    assert digest(partial(ask, {"a": 1, "b": 2})) == digest(partial(ask, {"b": 2, "a": 1}))


def test_objects_that_differ_from_task_to_task_cannot_be_compared():
    """A client that all tasks share is one thing; an agent of each task is its input."""
    fingerprints, client = Fingerprints(b""), Client()

    known, can_compare = fingerprints.of(partial(ask, client, "a"))
    assert (known is not None, can_compare) == (True, True)
    assert fingerprints.of(partial(ask, client, "b"))[1]
    assert fingerprints.of(partial(ask, Client(), "a")) == (known, False)
    assert fingerprints.of(partial(ask, Client())) == (None, False)
    assert digest(Client().ask) is None


def test_a_fingerprint_does_not_give_likely_inputs_away():
    """Two journals have different fingerprints for one input."""
    assert digest(partial(ask, "yes"), b"one") != digest(partial(ask, "yes"), b"two")


def test_bytes_are_not_taken_for_text():
    """Bytes and the text that they are written as are different values."""
    raw = b"abc"

    assert dumps(raw) != dumps(b64encode(raw).decode())
    assert (type(loads(dumps(UUID(int=3)))), loads(dumps(Decimal("1.10")))) == (
        UUID,
        Decimal("1.10"),
    )
    assert loads(dumps([date(2026, 1, 1), time(3, 4, tzinfo=ZoneInfo("Europe/Paris"))]))[1].tzinfo
