"""Strategy specs: names, calls and tables, read without evaluating any code.

A spec is ``threads``, ``retry(threads(max_workers=32), attempts=4)``,
``distribution:name``, or a table ``{use = "retry", attempts = 4, inner = {use = "threads"}}``.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from stratagem.errors import PositionalOptionError, SpecError

__all__ = ["Spec", "TakesText", "Word", "parse_spec", "spec_from_table"]

_NAME = re.compile(r"(?:(?P<dist>[A-Za-z0-9][A-Za-z0-9._-]*):)?(?P<name>[A-Za-z_][A-Za-z0-9_-]*)")
_OPTION = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)")
_CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
_DEEPEST = 32


@attrs.frozen
class Spec:
    """Hold a strategy chosen by name, with what it is made of.

    Attributes:
        name: the name of the strategy.
        distribution: whose, or None for the only one.
        inner: the positional arguments, each a spec.
        options: the keyword arguments: literals, specs, or words that may turn out to be specs.
        text: what the user wrote.
    """

    name: str
    distribution: str | None = None
    inner: tuple["Spec", ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict)
    text: str = attrs.field(default="", eq=False, repr=False)


@attrs.frozen
class Word:
    """Hold a name or call given as an option: a spec where the option takes one, else an error."""

    spec: Spec
    text: str


TakesText = Callable[[str, str | None], str | None]
"""Name the option that a text given first is for, of a strategy and its distribution."""


def _takes_no_text(_name: str, _distribution: str | None) -> str | None:
    return None


def parse_spec(text: str, takes_text: TakesText = _takes_no_text) -> Spec:
    """Read a spec from its text.

    Args:
        text: the text.
        takes_text: tells which strategies take a text without the name of its option.

    Raises:
        SpecError: it cannot be read; the message shows the right form.
    """
    stripped = text.strip()
    if not stripped:
        raise SpecError(
            "an empty strategy spec", spec=text, hint="name a strategy, such as threads"
        )
    return attrs.evolve(_parse(stripped, text, 1, takes_text), text=stripped)


def _parse(text: str, whole: str, depth: int, takes_text: TakesText) -> Spec:
    if depth > _DEEPEST:
        raise SpecError(
            f"strategies nested more than {_DEEPEST} deep",
            spec=_shortened(whole),
            hint="nest fewer",
        )
    match = _NAME.match(text)
    if match is None:
        raise SpecError(
            f"{text!r} is not the name of a strategy",
            spec=whole,
            hint="write name or name(option=value)",
        )
    name, distribution = match["name"], match["dist"]
    rest = text[match.end() :].strip()
    if not rest:
        return Spec(name, distribution, text=text)
    if not (rest.startswith("(") and _end_of_group(rest, whole) == len(rest)):
        raise SpecError(
            f"{rest!r} after {name!r} cannot be read", spec=whole, hint="write name(option=value)"
        )
    inner: list[Spec] = []
    options: dict[str, Any] = {}
    for place, part in enumerate(_split(rest[1:-1], whole)):
        if (option := _OPTION.match(part)) is None:
            named = takes_text(name, distribution) if place == 0 and _is_text(part) else None
            if named is not None:
                options[named] = ast.literal_eval(part)
                continue
            _require_strategy(part, name, whole, after_options=bool(options))
            inner.append(_parse(part, whole, depth + 1, takes_text))
            continue
        key = option[1]
        if key in options:
            raise SpecError(f"option {key!r} is given twice", spec=whole, hint="give it once")
        options[key] = _value(key, part[option.end() :].strip(), whole, depth, takes_text)
    return Spec(name, distribution, tuple(inner), options, text)


def _end_of_group(text: str, whole: str) -> int:
    expected: list[str] = []
    for position, character in _outside_strings(text, whole):
        if character in _CLOSED_BY:
            expected.append(_CLOSED_BY[character])
        elif character in _CLOSED_BY.values():
            if character != expected.pop():
                raise SpecError(
                    f"a bracket is closed by {character!r}", spec=whole, hint="close it by its like"
                )
            if not expected:
                return position + 1
    raise SpecError("a bracket is not closed", spec=_shortened(whole), hint="close it")


def _outside_strings(text: str, whole: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    quote = ""
    escaped = False
    for position, character in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        else:
            found.append((position, character))
    if quote:
        raise SpecError("a string is not closed", spec=whole, hint=f"close it with {quote}")
    return found


def _split(text: str, whole: str) -> list[str]:
    parts: list[str] = []
    depth = start = 0
    for position, character in _outside_strings(text, whole):
        if character in _CLOSED_BY:
            depth += 1
        elif character in _CLOSED_BY.values():
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    if last:
        parts.append(last)
    if "" in parts:
        raise SpecError(
            "an argument is missing before a comma", spec=whole, hint="leave the comma out"
        )
    return parts


def _is_text(part: str) -> bool:
    try:
        return isinstance(ast.literal_eval(part), str)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def _require_strategy(part: str, name: str, whole: str, *, after_options: bool) -> None:
    if _NAME.match(part) is None or part in {"True", "False", "None"}:
        raise PositionalOptionError(name, part, spec=whole)
    if after_options:
        raise SpecError(
            f"the strategy {part!r} stands after an option", spec=whole, hint="put strategies first"
        )


def _value(key: str, text: str, whole: str, depth: int, takes_text: TakesText) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if text in {"true", "false", "null", "none"}:
        right = {"true": "True", "false": "False"}.get(text, "None")
        raise SpecError(
            f"{text!r} is not a value for {key!r}", spec=whole, hint=f"write {key}={right}"
        )
    match = _NAME.match(text)
    if match is not None and (match.end() == len(text) or text[match.end() :].lstrip()[0] == "("):
        return Word(_parse(text, whole, depth + 1, takes_text), text)
    raise SpecError(
        f"{text!r} is not a literal value for {key!r}",
        spec=whole,
        hint=f"write {key}={_quoted(text)}",
    )


def _shortened(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "..."


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def not_a_spec(option: str, word: Word, whole: object) -> SpecError:
    """Say that an option that takes no strategy was given a bare word."""
    return SpecError(
        f"{word.text!r} is not a literal value for {option!r}",
        spec=whole,
        hint=f"write {option}={_quoted(word.text)}",
    )


def spec_from_table(table: Mapping[str, Any], takes_text: TakesText = _takes_no_text) -> Spec:
    """Read a spec from a table with the name under ``use``; nested tables with ``use`` are specs.

    Args:
        table: the table.
        takes_text: as for ``parse_spec``.

    Raises:
        SpecError: ``use`` is missing or not text.
    """
    use = table.get("use")
    if not isinstance(use, str):
        raise SpecError(
            "a strategy table needs its name under 'use'",
            spec=dict(table),
            hint='write {use = "threads"}',
        )
    named = parse_spec(use, takes_text)
    options = dict(named.options)
    for key, value in table.items():
        if key == "use":
            continue
        if key in options:
            raise SpecError(f"option {key!r} is given twice", spec=dict(table), hint="give it once")
        options[key] = (
            spec_from_table(value, takes_text)
            if isinstance(value, Mapping) and "use" in value
            else value
        )
    return Spec(named.name, named.distribution, named.inner, options, text=repr(dict(table)))
