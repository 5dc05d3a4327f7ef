"""How much memory a worker may have, so that a task that wants more fails alone."""

from typing import Any

from stratagem.options import require_count

__all__ = ["limit_memory", "memory_limit_of"]

resource: Any
try:
    import resource
except ImportError:
    resource = None


def memory_limit_of(given: int | None) -> int:
    """Give the number of bytes for the option ``max_memory``, 0 for no bound.

    Raises:
        ValueError: it is no whole number over 0, or the platform knows no such bound.
    """
    if given is None:
        return 0
    require_count("max_memory", given)
    if not hasattr(resource, "RLIMIT_AS"):
        raise ValueError("max_memory cannot be kept on this platform (no RLIMIT_AS); leave it out")
    return given


def limit_memory(size: int) -> None:
    """Bound the address space of this process, and of what it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
