"""How long a run will still take, also when few long tasks are all that is left of it."""

import itertools
import operator
from collections.abc import Collection, Sequence

__all__ = ["expected_longest", "expected_rest", "seconds_left"]


def seconds_left(
    waiting: int, ages: Collection[float], durations: Collection[float], slots: int
) -> float | None:
    """Estimate the seconds until the last task ends; None while nothing is known.

    Remaining tasks by their rate would be right as long as every slot is busy, which ends when
    nothing waits any more: then slots idle one by one, and the slowest task alone decides.
    So two bounds are looked at, and the later one is what counts.

    - The work that is left, spread over the slots: the rest of what runs and the mean duration
      of what waits. When nothing waits any more, the last tasks to begin still run; the longest
      of them is expected to take the mean of the maximum of so many observed durations,
      which exceeds the mean itself by the tail that comes on top.
    - The rest of the longest of those that run.

    What runs counts in the sample with its expected whole duration: by those alone that have ended
    already, long tasks would seem to be rarer than they are.

    Args:
        waiting: how many tasks have not begun.
        ages: how long each of those that run has been running.
        durations: how long tasks have taken that ended, a sample.
        slots: how many can run at once.
    """
    if not (waiting or ages):
        return 0.0
    if not durations:
        return None
    ordered = sorted(durations)
    rests = [expected_rest(age, ordered) for age in ages]
    longest = max(rests, default=0.0)
    if not waiting:
        return longest
    ordered = sorted([*ordered, *map(operator.add, ages, rests)])
    mean = sum(ordered) / len(ordered)
    spread = (sum(rests) + waiting * mean) / max(1, slots)
    tail = expected_longest(min(slots, waiting), ordered) - mean
    return max(spread + tail, longest, mean)


def expected_rest(age: float, durations: Sequence[float]) -> float:
    """Give how much longer a task runs that has run for ``age``, by the sorted ``durations``.

    That is the mean rest of those that took longer; one that has outlived them all is expected
    to take as long again, as is usual of what has a heavy tail.
    """
    rests = [duration - age for duration in durations if duration > age]
    return sum(rests) / len(rests) if rests else age


def expected_longest(count: int, durations: Sequence[float]) -> float:
    """Give the mean of the longest of ``count`` durations drawn from the sorted ``durations``."""
    size = len(durations)
    shares = [(rank / size) ** max(1, count) for rank in range(size + 1)]
    return sum(
        duration * (upper - lower)
        for duration, (lower, upper) in zip(durations, itertools.pairwise(shares), strict=True)
    )
