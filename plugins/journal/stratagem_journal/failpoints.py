"""Points at which a test has the process killed, named in an environment variable.

``STRATAGEM_JOURNAL_FAILPOINT=after_commit:3`` kills it where the third commit is done.
Without it ``reach`` is None, and nobody calls it.
"""

import os
import signal
from collections.abc import Callable, Mapping

__all__ = ["POINTS", "armed", "reach"]

VARIABLE = "STRATAGEM_JOURNAL_FAILPOINT"
POINTS = (
    "file_created",
    "schema_written",
    "opened",
    "before_commit",
    "in_commit",
    "after_commit",
    "released",
    "handed_out",
    "ended",
    "before_close",
    "closed",
)


def armed(environ: Mapping[str, str]) -> Callable[[str], None] | None:
    """Give what is called at each point; None where no point is named.

    Raises:
        ValueError: there is no such point.
    """
    given = environ.get(VARIABLE)
    if not given:
        return None
    point, _, times = given.partition(":")
    if point not in POINTS:
        raise ValueError(f"{VARIABLE} names {point!r}; the points are: {', '.join(POINTS)}")
    left = int(times or 1)

    def pass_by(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


reach = armed(os.environ)
