"""What a run came to, counted line by line, and said in a few words."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from stratagem.task import Status

__all__ = ["Tally"]

KINDS_SHOWN = 3


@attrs.define
class Tally:
    """Count lines by status, and those that failed by themselves by the type of their error."""

    ok: int = 0
    others: Counter[Status] = attrs.field(factory=Counter)
    kinds: Counter[str] = attrs.field(factory=Counter)
    examples: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    recalled: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Count the record of one line."""
        if record["status"] == "ok":
            self.ok += 1
        else:
            self.others[record["status"]] += 1
        self.recalled += "recalled" in record
        if "error" in record and record["status"] != "cancelled":
            self._add_failure(record)

    def _add_failure(self, record: dict[str, Any]) -> None:
        kind, message = record["error"]["type"], record["error"]["message"]
        self.kinds[kind] += 1
        example = (record["index"], f"key {record['key']!r}: {message[:200]}")
        self.examples[kind] = min(example, self.examples.get(kind, example))

    @property
    def failed(self) -> int:
        """Count the lines that are not ok."""
        return self.others.total()

    def summary(self, seconds: float, stopped: str | None) -> str:
        """Say in one line how many tasks ended, how, and in which time."""
        counts = [f"{self.ok} ok"] if self.ok else []
        counts += [f"{self.others[status]} {status}" for status in Status if self.others[status]]
        counts += [f"{self.recalled} recalled"] if self.recalled else []
        total = self.ok + self.failed
        tasks = f"{total} task{'s' * (total != 1)} in {seconds:.1f} s"
        return ": ".join(part for part in (stopped, tasks, ", ".join(counts)) if part)

    def failures(self) -> Iterator[str]:
        """Say what kinds of failure there were, the most frequent first, each with its first."""
        for kind, count in self.kinds.most_common(KINDS_SHOWN):
            yield f"{count} x {kind}, first with {self.examples[kind][1]}"
        if len(self.kinds) > KINDS_SHOWN:
            yield f"and {len(self.kinds) - KINDS_SHOWN} other kinds of failure"
