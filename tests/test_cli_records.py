"""The lines of ``stratagem map``: the short way writes what the long way does."""

import json
from enum import IntEnum
from pathlib import PurePath

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratagem import Outcome, Status
from stratagem.cli.records import encode, line_of, record_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
outcomes = st.builds(
    Outcome,
    index=st.integers(min_value=0),
    key=st.text(),
    name=st.just("task"),
    status=st.sampled_from(Status),
    value=values,
    error=st.none() | st.just(KeyError("x")),
    seconds=st.floats(min_value=0, allow_infinity=False) | st.integers(0, 9),
    attempts=st.integers(1, 9),
    recalled=st.booleans(),
)


@given(outcomes)
def test_the_short_way_to_a_line_gives_the_line_of_the_long_way(outcome):
    """Where it gives one, each byte is the same."""
    line = line_of(outcome)

    assert line in {None, encode(record_of(outcome))[1]}


@attrs.frozen
class Answer:
    text: str


class Grade(IntEnum):
    GOOD = 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        0.5,
        "\u00e9 \u2028 \ud800",
        [1],
        {"a": None, 3: "b"},
        Answer("x"),
        Grade.GOOD,
        PurePath("a/b"),
        {"at": Answer("y")},
    ],
)
def test_what_is_common_goes_the_short_way(value):
    """Any value that JSON has a form for, from a task that ended well."""
    outcome = Outcome(3, "k", "task", Status.OK, value=value, seconds=1.23456789)

    line = line_of(outcome)

    assert line == encode(record_of(outcome))[1]
    assert list(json.loads(line)) == ["index", "key", "status", "value", "seconds", "attempts"]


@pytest.mark.parametrize(
    "change",
    [
        {"error": KeyError("x"), "status": Status.ERROR},
        {"status": Status.CANCELLED},
        {"recalled": True},
        {"value": float("nan")},
        {"value": object()},
        {"seconds": 1},
        {"attempts": 2.0},
    ],
)
def test_what_is_out_of_the_common_goes_the_long_way(change):
    """Failures, and values that have no JSON form, are said by the one place that can."""
    outcome = Outcome(3, "k", "task", Status.OK, value=1, seconds=1.0)

    assert line_of(attrs.evolve(outcome, **change)) is None
