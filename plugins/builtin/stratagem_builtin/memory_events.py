"""What the kernel tells of processes that it killed for want of memory."""

from pathlib import Path

__all__ = ["OutOfMemory"]

CGROUPS = Path("/sys/fs/cgroup")


class OutOfMemory:
    """Watch the count of such kills in the control group of this process (cgroup v2, Linux)."""

    def __init__(self) -> None:
        self._seen = kills()

    def struck(self) -> bool:
        """Tell whether there was a kill since this was asked last."""
        seen, self._seen = self._seen, kills()
        return self._seen > seen


def kills() -> int:
    """Count them; 0 where nobody counts."""
    try:
        line = Path("/proc/self/cgroup").read_text("ascii").rpartition("0::/")[2]
        told = (CGROUPS / line.strip() / "memory.events").read_text("ascii")
        return int(dict(row.split() for row in told.splitlines())["oom_kill"])
    except (OSError, ValueError, KeyError):
        return 0
