"""Whether a failure ends its run, and what is said of it then."""

import attrs

from stratagem.errors import RemoteError
from stratagem.plan import Plan
from stratagem.task import Outcome, raisable
from stratagem.terminal import find_stop

__all__ = ["Verdict", "type_name", "verdict_on"]


@attrs.frozen
class Verdict:
    """Say that a run is to stop.

    Attributes:
        stopped: what the report says.
        reason: why, in a sentence, where a task or a rule of the caller said so.
        error: what is raised in the end; None for nothing.
    """

    stopped: str
    reason: str = ""
    error: Exception | None = None


def verdict_on(outcome: Outcome, plan: Plan, failures: int) -> Verdict | None:
    """Say whether a failed outcome ends its run: a task says so, a rule, or the number of failures.

    Args:
        outcome: what became of a task.
        plan: how its run is to go.
        failures: how many tasks have failed with this one.
    """
    raises = raisable(outcome) if plan.on_error == "raise" else None
    said = find_stop(outcome.error)
    if said is not None:
        words = getattr(said, "reason", "") or "it raised StopRun"
        return Verdict("stop_run", f"task {outcome.key!r} stopped the run: {words}", raises)
    try:
        ruled = plan.ends_run is not None and outcome.error and plan.ends_run(outcome.error)
    except Exception as broken:  # noqa: BLE001 - the rule is the caller's: nothing more is paid for
        return Verdict("stop_on", f"stop_on itself raised {type_name(broken)}", broken)
    if ruled:
        how = f"failed with {type_name(outcome.error)}, at which the run is to stop"
        return Verdict("stop_on", f"task {outcome.key!r} {how}", raises)
    if raises is not None:
        return Verdict("on_error", error=raises)
    return Verdict("max_errors") if failures == plan.max_errors else None


def type_name(error: object) -> str:
    """Name the type of an error, also of one of another process."""
    return error.type_name if isinstance(error, RemoteError) else type(error).__qualname__
