"""The strategy ``journal``: it wraps another one, and loses nothing that has ended.

::

    strategy ── what is offered; opens the file with the first stream, closes it with the last
      session ── one stream: the inner strategy's, with the journal on both sides
        gate ── the source that the inner strategy takes from; what comes out is on disk
        recall ── which tasks of a resumed run need not run
        scribe ── from an outcome to its record
      store ── the file, open for writing, in a thread of its own
        writing ── many records a commit, then their owners are told
        files ── who may write the file, and whether it is still the same
      reading ── connections that only read, and how rows are found
        schema ── the tables, and what tells a journal from other files
        seals ── what tells whether a record is what was written
    looking, salvage ── what people ask of a file
    policy ── what a caller says of it
    values, codecs, failures, fingerprints ── what values, errors and inputs are on disk

One task, once through: the inner strategy asks the gate, which takes it from further up and has
the store write that it begins; when that is on disk it is handed out, runs, and its outcome comes
through the session to the store; when that is on disk the session hands it on.
"""

from collections.abc import Iterable

from stratagem import StrategyInfo, hookimpl
from stratagem_journal.errors import (
    JournalDamagedError,
    JournalError,
    JournalInUseError,
    JournalMismatchError,
    JournalRefusedError,
    JournalResumeError,
    ValueRefusedError,
)
from stratagem_journal.strategy import JournalStrategy

__all__ = [
    "JournalDamagedError",
    "JournalError",
    "JournalInUseError",
    "JournalMismatchError",
    "JournalRefusedError",
    "JournalResumeError",
    "JournalStrategy",
    "ValueRefusedError",
]


@hookimpl
def stratagem_strategies() -> Iterable[StrategyInfo]:
    """Offer ``journal``."""
    return [
        StrategyInfo(
            "journal",
            JournalStrategy,
            "another strategy, its outcomes kept in a file",
            imports_code=frozenset({"codec"}),
        )
    ]
