"""Tags: free words on tasks, by which strategies and listeners may tell them apart."""

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["NO_TAGS", "GivenTags", "Tags", "read_tags", "tags_of"]

GivenTags = Iterable[str] | Callable[[Any], Iterable[str]] | None
Tags = frozenset[str] | Callable[[Any], Iterable[str]]

NO_TAGS: frozenset[str] = frozenset()


def read_tags(given: GivenTags) -> Tags:
    """Give the tags of every task, or the function that gives those of one.

    Raises:
        TypeError: they are neither several words nor a function.
        ValueError: one of them is empty.
    """
    if given is None:
        return NO_TAGS
    return given if callable(given) else _checked(given, "tags")


def tags_of(index: int, item: object, tagger: Callable[[Any], Iterable[str]]) -> frozenset[str]:
    """Give the tags of one input.

    Raises:
        TypeError: ``tagger`` gives something else than several words for it.
        ValueError: one of them is empty.
    """
    return _checked(tagger(item), f"the tags of input {index}")


def _checked(given: object, whose: str) -> frozenset[str]:
    if isinstance(given, str):
        raise TypeError(f"{whose} are the one text {given!r}; write [{given!r}] for a single tag")
    if not isinstance(given, Iterable):
        raise TypeError(f"{whose} must be several words, such as ['cpu'], not {given!r}")
    tags = list(given)
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"{whose} must each be text, and {tag!r} is not; write {str(tag)!r}")
        if not tag:
            raise ValueError(f"{whose} have an empty one; leave it out, or write a word")
    return frozenset(tags)
