"""Every contest there is: those that all run, and those on clusters, which run when asked for."""

from benchmarks.calls import CALLS
from benchmarks.clusters import CLUSTERS
from benchmarks.command_line import COMMAND_LINE
from benchmarks.dispatch import DISPATCH
from benchmarks.journals import JOURNALS
from benchmarks.limits import LIMITS
from benchmarks.listening import LISTENING
from benchmarks.memory import MEMORY
from benchmarks.nested import NESTED
from benchmarks.start import START

ALL = [*DISPATCH, *LISTENING, *LIMITS, *CALLS, *NESTED, *MEMORY, *START, *COMMAND_LINE, *JOURNALS]
CONTESTS = {contest.name: contest for contest in [*ALL, *CLUSTERS]}
