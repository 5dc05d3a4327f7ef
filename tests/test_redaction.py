"""Secrets in text: what is masked, and what it costs to look for it."""

import pytest

from stratagem import Redactor

pytestmark = pytest.mark.once

HEAD, BODY = "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0In0"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-abcdefghijklmnop1234 is wrong", "key [redacted] is wrong"),
        (f"got {HEAD}.{BODY}.c2lnbmF0dXJl back", "got [redacted] back"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
        ("postgres://me:pa55word@db/x", "postgres://[redacted]@db/x"),
        ("GET /v1?key=abc123&n=1", "GET /v1?key=[redacted]&n=1"),
        ("the key is in the desk, skipped", "the key is in the desk, skipped"),
    ],
)
def test_what_has_the_shape_of_a_secret_is_masked(text, masked):
    """The rest of the text stays as it is."""
    assert Redactor({})(text) == masked


def test_what_the_environment_keeps_secret_is_masked():
    """A variable whose name speaks of a secret gives its value away nowhere; others are no secret."""
    redact = Redactor({"HOUSE_TOKEN": "open sesame", "HOUSE": "number eleven"})

    assert redact("open sesame at number eleven") == "[redacted] at number eleven"


@pytest.mark.parametrize("part", ["eyJ-", "://a:b", "sk-", "token=", "eyJaaaaa.", "bearer "])
def test_no_text_makes_it_search_for_ever(part):
    """A megabyte of beginnings is searched to its end, for which its square would be too long."""
    text = part * (1_000_000 // len(part))

    assert len(Redactor({})(text)) <= len(text) + len(text) // len(part) * len("[redacted]")
