"""A warning where a process forks while others of its threads run."""

import threading
import warnings

__all__ = ["warn_of_threads"]

MOST_NAMED = 5


def warn_of_threads() -> None:
    """Warn of threads that may hold a lock while the process forks, and name them.

    Not of the main thread, where a program waits for its run, nor of those that serve strategies.
    """
    names = [thread.name for thread in threading.enumerate() if _may_hold_a_lock(thread)]
    if not names:
        return
    named = ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)
    warnings.warn(
        f"processes(start_method='fork') forks while {len(names)} other "
        f"thread{'s' * (len(names) > 1)} run ({named}); a lock that one of them holds is held for "
        "ever in the workers, which may hang; use start_method='forkserver' or 'spawn', "
        "or start the threads later",
        RuntimeWarning,
        stacklevel=3,
    )


def _may_hold_a_lock(thread: threading.Thread) -> bool:
    ours = thread.name.startswith("stratagem-")
    return not (ours or thread is threading.main_thread())
