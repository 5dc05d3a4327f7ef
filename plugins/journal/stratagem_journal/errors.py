"""What can be wrong with a journal, one leaf per decision a caller can take.

::

    JournalError                      a run cannot go on without its journal
    ├── JournalInUseError             another run writes it
    ├── JournalResumeError            it is there and must not be, or the other way round
    ├── JournalRefusedError           the file is not ours to trust, or of another format
    │   └── JournalDamagedError       what it holds is not what was written
    └── JournalMismatchError          what it holds belongs to another input
    ValueRefusedError (TypeError)     a value has no form from which the same value comes back
"""

from collections.abc import Iterable, Sequence

from stratagem import Outcome, StratagemError

__all__ = [
    "JournalDamagedError",
    "JournalError",
    "JournalInUseError",
    "JournalMismatchError",
    "JournalRefusedError",
    "JournalResumeError",
    "ValueRefusedError",
]

KEYS_SHOWN = 5
LONGEST_PATH = 200


class JournalError(StratagemError):
    """Say that a journal cannot be written or read, so that its run stopped.

    Attributes:
        path: the file.
        outcomes: what had ended and is not in the journal; it stands in the report of the run.
        exit_code: what the command line exits with.
    """

    exit_code = 74

    def __init__(self, path: object, problem: str) -> None:
        self.path = str(path)
        self.outcomes: Sequence[Outcome] = ()
        super().__init__(f"journal {self.path}: {problem}")


class JournalInUseError(JournalError):
    """Say that another run writes the journal."""

    exit_code = 75


class JournalResumeError(JournalError):
    """Say that there is nothing to resume, or that a new run would go on with an old one."""

    exit_code = 2


class JournalRefusedError(JournalError):
    """Say that a file is no journal of ours, or not one to be trusted."""

    exit_code = 65


class JournalDamagedError(JournalRefusedError):
    """Say that what a journal holds is not what was written."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            path,
            f"it is damaged: {problem}; `stratagem salvage {path} -o NEW` copies what is whole",
        )


class JournalMismatchError(JournalError):
    """Say that tasks are not those that the journal knows under their keys.

    Attributes:
        keys: the keys of the tasks.
    """

    exit_code = 2

    def __init__(self, path: object, problems: Iterable[tuple[str, str]]) -> None:
        found = list(problems)
        self.keys = tuple(key for key, _ in found)
        shown = "; ".join(f"task {key!r} {problem}" for key, problem in found[:KEYS_SHOWN])
        more = f"; and {len(found) - KEYS_SHOWN} more" if len(found) > KEYS_SHOWN else ""
        super().__init__(
            path,
            f"{shown}{more}; give the input that was recorded, another file, "
            'or say what to do: on_mismatch="rerun" runs such tasks again, '
            '"reuse" takes what was recorded',
        )


class ValueRefusedError(TypeError):
    """Say which part of a value has no form from which the same value comes back.

    Attributes:
        problem: what is wrong with that part.
        steps: the way to it, the innermost first.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.steps: list[str] = []
        super().__init__(problem)

    @property
    def path(self) -> str:
        """Give the way to the part, such as ``$.answers[3]``."""
        path = "$" + "".join(reversed(self.steps))
        return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."

    def __str__(self) -> str:
        """Name the part, and what is wrong with it."""
        return f"{self.path} {self.problem}"
