"""What a caller says of how a journal is kept, and of tasks that it knows."""

from typing import Literal

import attrs

__all__ = ["Durability", "InDoubt", "OnMismatch", "Policy"]

Durability = Literal["full", "process"]
InDoubt = Literal["rerun", "fail"]
OnMismatch = Literal["error", "rerun", "reuse"]


@attrs.frozen
class Policy:
    """Say what becomes of tasks that a journal knows.

    Attributes:
        in_doubt: whether tasks that had begun when a run was cut off run again, or fail.
        retry_failed: whether tasks that failed run again.
        on_mismatch: whether a changed input under a known key ends the run, has the task run
            again, or changes nothing.
    """

    in_doubt: InDoubt = "rerun"
    retry_failed: bool = True
    on_mismatch: OnMismatch = "error"
