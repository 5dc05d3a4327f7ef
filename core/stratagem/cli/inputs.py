"""The input of ``stratagem map``: JSONL, CSV or text, read lazily, errors named by line."""

import csv
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import attrs

from stratagem.cli.formats import Format
from stratagem.cli.messages import CommandError
from stratagem.cli.standard import take_stdin
from stratagem.numbering import KEY_BYTES

__all__ = ["Input", "open_input"]

LINE_BYTES = 16 * 2**20
COUNTED_BYTES = 2**30
_BLOCK = 2**20
_BOM = "\ufeff"


_BY_SUFFIX = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV}


@attrs.frozen
class Input:
    """Be an open input.

    Attributes:
        name: what messages call it.
        file: where its bytes come from.
        format: what its lines are.
    """

    name: str
    file: BinaryIO
    format: Format

    def items(self, key: str | None = None, limit: int | None = None) -> Iterator[Any]:
        """Read items as they are asked for: JSON values, dicts of a CSV row, or lines of text.

        Args:
            key: a field that every item must have, fit to be the key of a task.
            limit: how many items to read; None for all.

        Raises:
            CommandError: while reading, names the line that is wrong.
        """
        numbered: Iterator[tuple[int, Any]] = islice(_READERS[self.format](self), limit)
        if key is not None:
            numbered = self._with_keys(numbered, key)
        return map(itemgetter(1), numbered)

    def _with_keys(
        self, numbered: Iterator[tuple[int, Any]], key: str
    ) -> Iterator[tuple[int, Any]]:
        for number, item in numbered:
            self._check_key(number, item, key)
            yield number, item

    def _check_key(self, number: int, item: Any, field: str) -> None:
        if not isinstance(item, dict) or item.get(field) is None:
            self.refuse(number, f"no field {field!r} to take the key from")
        if not isinstance(item[field], str | int | float) or isinstance(item[field], bool):
            self.refuse(number, f"the key in {field!r} must be text or a number")
        if not 0 < len(str(item[field]).encode("utf-8", "surrogatepass")) <= KEY_BYTES:
            self.refuse(number, f"the key in {field!r} must have 1 to {KEY_BYTES} bytes")

    def refuse(self, number: int, problem: str) -> NoReturn:
        """Raise a CommandError that names file and line."""
        raise CommandError(f"{self.name}, line {number}: {problem}")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Read lines with their numbers, from 1, each with its line end."""
        readline, most = self.file.readline, LINE_BYTES + 1
        number = 0
        while True:
            try:
                line = readline(most)
            except OSError as error:
                self.refuse(number + 1, f"cannot be read: {error.strerror}")
            if not line:
                return
            number += 1
            if len(line) == most:
                self.refuse(number, f"longer than {LINE_BYTES // 2**20} MiB")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                self.refuse(number, f"not UTF-8: {error.reason} at byte {error.start + 1}")
            if number == 1:
                text = text.removeprefix(_BOM)
            yield number, text

    def count(self) -> int | None:
        """Count the lines that are left, for a progress bar; None where that is not cheap."""
        descriptor = self.file.fileno()
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > COUNTED_BYTES:
            return None
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        lines, last = 0, b"\n"
        while block := os.pread(descriptor, _BLOCK, position):
            position += len(block)
            lines += block.count(b"\n")
            last = block[-1:]
        lines += last != b"\n"
        return max(0, lines - (self.format is Format.CSV))


def open_input(name: str, given: Format | None = None) -> Input:
    """Open a file, or stdin for ``-``.

    Args:
        name: the path.
        given: its format; by default what the suffix says, else text, and JSONL for stdin.

    Raises:
        CommandError: it cannot be opened.
    """
    if name == "-":
        return Input(
            "stdin", os.fdopen(take_stdin(), "rb", buffering=_BLOCK), given or Format.JSONL
        )
    path = Path(name)
    try:
        file = path.open("rb", buffering=_BLOCK)
    except OSError as error:
        raise CommandError(f"input {name} cannot be opened: {error.strerror}") from error
    return Input(name, file, given or _BY_SUFFIX.get(path.suffix.lower(), Format.TEXT))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_PLAIN_ENDS = ("\n", "\r\n", "")


def _decode(line: str) -> Any:
    """Decode a line: in half the time where nothing but its end stands around the value."""
    try:
        item, end = _decoder.raw_decode(line)
    except json.JSONDecodeError:
        return _decoder.decode(line)
    return item if line[end:] in _PLAIN_ENDS else _decoder.decode(line)


def _read_jsonl(source: Input) -> Iterator[tuple[int, Any]]:
    for number, line in source.lines():
        if line.isspace():
            continue
        try:
            item = _decode(line)
        except json.JSONDecodeError as error:
            source.refuse(number, f"not JSON: {error.msg}, at column {error.colno}")
        except RecursionError:
            source.refuse(number, "JSON nested too deeply")
        except ValueError as error:
            source.refuse(number, str(error))
        yield number, item


def _read_csv(source: Input) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LINE_BYTES)
    rows = csv.DictReader((line for _, line in source.lines()), strict=True)
    try:
        _check_header(source, rows.fieldnames or ())
        for row in rows:
            if None in row:
                source.refuse(
                    rows.line_num, f"more fields than the header, which has {len(row) - 1}"
                )
            yield rows.line_num, row
    except csv.Error as error:
        source.refuse(rows.reader.line_num, f"not CSV: {error}")


def _check_header(source: Input, fields: Iterable[str]) -> None:
    seen: set[str] = set()
    for field in fields:
        if field in seen:
            source.refuse(1, f"the header names {field!r} twice")
        seen.add(field)


def _read_text(source: Input) -> Iterator[tuple[int, Any]]:
    for number, line in source.lines():
        yield number, line.removesuffix("\n").removesuffix("\r")


_READERS: dict[Format, Callable[[Input], Iterator[tuple[int, Any]]]] = {
    Format.JSONL: _read_jsonl,
    Format.CSV: _read_csv,
    Format.TEXT: _read_text,
}
