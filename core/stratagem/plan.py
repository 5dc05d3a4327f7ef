"""What is to be run, and how: the options of a run, checked."""

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import Any, Literal

import attrs

from stratagem.expansion import Growth
from stratagem.options import require_count, require_seconds
from stratagem.tags import NO_TAGS, Tags, read_tags
from stratagem.terminal import StopOn, stop_rule

__all__ = ["Plan"]


@attrs.frozen
class Plan:
    """Hold what is to be run, and how.

    Attributes:
        items: callables, or what ``function`` is called with.
        function: called with each item; None when the items are the callables.
        on_error: whether the first failure ends the run and is raised, or is collected.
        max_errors: how many failures stop the run; None for any number.
        timeout: seconds that one attempt may run; None for no bound.
        key: gives the key of an item; None for its index.
        keep: how many outcomes a report holds at most; None for all.
        growth: how tasks lead to further tasks; None where they do not.
        tags: the tags of every task, or what gives those of an item.
        parent_key: the key of the task whose children these are; None where they are of none.
        stop_on: which errors stop the run, as the caller said it.
        stall_after: seconds without a success after which a warning says so; None for never.
        ends_run: tells whether an error stops the run; None where none but ``StopRun`` does.
    """

    items: Iterable[Any] | AsyncIterable[Any]
    function: Callable[[Any], Any] | None = None
    on_error: Literal["collect", "raise"] = "collect"
    max_errors: int | None = None
    timeout: float | None = None
    key: Callable[[Any], object] | None = None
    keep: int | None = None
    growth: Growth | None = None
    tags: Tags = attrs.field(default=NO_TAGS, converter=read_tags)
    parent_key: str | None = None
    stop_on: StopOn | None = None
    stall_after: float | None = None
    ends_run: Callable[[BaseException], bool] | None = attrs.field(init=False)

    @ends_run.default
    def _rule(self) -> Callable[[BaseException], bool] | None:
        return stop_rule(self.stop_on)

    def __attrs_post_init__(self) -> None:
        """Refuse options that make no sense.

        Raises:
            ValueError: naming the option, and what it may be.
        """
        if self.on_error not in {"collect", "raise"}:
            raise ValueError(f"on_error must be 'collect' or 'raise', not {self.on_error!r}")
        if self.max_errors is not None:
            require_count("max_errors", self.max_errors)
        if self.timeout is not None:
            require_seconds("timeout", self.timeout, zero=False)
        if self.stall_after is not None:
            require_seconds("stall_after", self.stall_after, zero=False)

    @property
    def total(self) -> int | None:
        """Tell how many items there are; None while that is unknown."""
        if self.growth is None and isinstance(self.items, Sequence):
            return len(self.items)
        return None
