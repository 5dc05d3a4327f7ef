"""What the lines of an input may be."""

from enum import StrEnum

__all__ = ["Format"]


class Format(StrEnum):
    """Name what the lines of an input are."""

    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"
