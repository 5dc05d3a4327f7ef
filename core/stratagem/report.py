"""What a run came to: its outcomes in input order, and what there is to say about them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, overload

import attrs

from stratagem.errors import StratagemError
from stratagem.task import Outcome, Status, raisable

__all__ = ["HookFailure", "Report"]


@attrs.frozen
class HookFailure:
    """Hold what a listener raised, which cost nothing but itself.

    Attributes:
        plugin: the name of the plugin.
        hook: the hook that raised.
        error: the first exception.
        count: how often it raised.
    """

    plugin: str
    hook: str
    error: BaseException
    count: int


@attrs.frozen(eq=False)
class Report(Sequence[Outcome]):
    """Be the outcomes of a run, in input order.

    Attributes:
        outcomes: one for each task that was taken, in input order. A stream longer than
            its ``keep`` bound holds only those it did not hand out.
        counts: how many ended with each status, over the whole run.
        seconds: how long the run took.
        stopped: why the run ended before its input did; None when it did not.
        hook_failures: what listeners raised.
        run_id: the id of the run.
        unfollowed: how many items of an expansion were known and not run, by why:
            ``"max_depth"``, ``"max_tasks"``, or ``"stopped"`` where the run was.
        reason: why it was stopped, in a sentence, where a task or a rule said so; else ``""``.
    """

    outcomes: Sequence[Outcome]
    counts: Counter[Status]
    seconds: float
    stopped: str | None = None
    hook_failures: tuple[HookFailure, ...] = ()
    run_id: str = ""
    unfollowed: Counter[str] = attrs.field(factory=Counter)
    reason: str = ""

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Outcome]: ...
    def __getitem__(self, index: int | slice) -> Outcome | Sequence[Outcome]:
        """Give the outcome at a position among those held, or a slice of them."""
        return self.outcomes[index]

    def __len__(self) -> int:
        """Count the outcomes held."""
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        """Go through the outcomes held."""
        return iter(self.outcomes)

    @property
    def ok(self) -> bool:
        """Tell whether the run went to its end and every task succeeded."""
        return not self.partial and self.counts.total() == self.counts[Status.OK]

    @property
    def partial(self) -> bool:
        """Tell whether the run was stopped before its input ended."""
        return self.stopped is not None

    @property
    def complete(self) -> bool:
        """Tell whether every outcome of the run is held."""
        return len(self.outcomes) == self.counts.total()

    @property
    def failures(self) -> list[Outcome]:
        """List the outcomes that are not ok."""
        return [outcome for outcome in self.outcomes if not outcome.ok]

    @property
    def errors(self) -> list[BaseException]:
        """List the exceptions of the outcomes that are not ok."""
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]

    @property
    def values(self) -> list[Any]:
        """List the values, in input order.

        Raises:
            ExceptionGroup: a task failed, see ``raise_for_errors``.
            StratagemError: the report is of a stream that did not keep its outcomes.
        """
        if not self.complete:
            raise StratagemError(
                f"this stream handed out {self.counts.total()} outcomes and kept "
                f"{len(self.outcomes)}; use `run` or `map` for a report that holds all"
            )
        self.raise_for_errors()
        return [outcome.value for outcome in self.outcomes]

    def raise_for_errors(self) -> None:
        """Raise an ExceptionGroup of all errors, each with a note that names its task.

        Does nothing when there are none.
        """
        failures = self.failures
        if failures:
            message = f"{len(failures)} of {self.counts.total()} tasks failed"
            raise ExceptionGroup(message, [named_error(outcome) for outcome in failures])

    def __repr__(self) -> str:
        """Show the counts, not the outcomes."""
        counts = ", ".join(f"{status.value}={n}" for status, n in self.counts.items() if n)
        stopped = f", stopped={self.stopped!r}" if self.stopped else ""
        stopped += f": {self.reason}" * bool(self.reason)
        left = ", ".join(f"{why}={n}" for why, n in self.unfollowed.items())
        unfollowed = f", unfollowed: {left}" if left else ""
        return f"<Report {counts or 'empty'}, {self.seconds:.3f} s{stopped}{unfollowed}>"


def named_error(outcome: Outcome) -> Exception:
    """Give the error of a failed outcome with a note that names its task."""
    error = raisable(outcome)
    note = f"task {outcome.key!r} ({outcome.name}), {outcome.status.value}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error
