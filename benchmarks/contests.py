"""Every contest there is."""

from benchmarks.dispatch import DISPATCH
from benchmarks.limits import LIMITS

CONTESTS = {contest.name: contest for contest in [*DISPATCH, *LIMITS]}
