"""Every contest there is."""

from benchmarks.dispatch import DISPATCH
from benchmarks.limits import LIMITS
from benchmarks.listening import LISTENING

ALL = [*DISPATCH, *LISTENING, *LIMITS]
CONTESTS = {contest.name: contest for contest in ALL}
