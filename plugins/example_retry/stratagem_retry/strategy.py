"""Try again: the wrapper itself. A task that waits for its next attempt holds no slot."""

from collections import Counter
from collections.abc import Iterator
from math import inf

from attrs import evolve

from stratagem import ExecutionStrategy, Feed, Outcome, StreamingStrategy, Task, TaskSource
from stratagem.terminal import find_stop
from stratagem_retry.errors import ErrorChoice, chooser, retry_after

__all__ = ["RetryStrategy"]

MOST_KILLS = 2
QUARANTINED = "it has cost two workers, so it is not tried again"


class RetryStrategy(StreamingStrategy):
    """Run tasks by another strategy, and those that fail again.

    ``Outcome.attempts`` tells how often a task was tried; listeners hear of it once.

    Args:
        inner: the strategy that runs the attempts.
        attempts: how often a task is tried at the most.
        on: which errors are tried again: a type, the name of one (``"TimeoutError"``,
            ``"openai.RateLimitError"``), several of either, or a function of the error.
            By default every ``Exception`` but those that a further attempt can't mend:
            a task that can't be pickled, or an HTTP status such as 401 or 404.
            A task that has cost two workers, or that raises ``StopRun``, is not tried again
            in any case.
        wait_initial: seconds before the second attempt; each further wait is twice as long.
        wait_max: seconds that a wait has at the most, jitter aside.
        wait_jitter: each wait is longer by up to so many seconds, at random.
            Where the error says ``Retry-After``, the wait is at least that long.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        inner: ExecutionStrategy,
        attempts: int = 3,
        on: ErrorChoice = None,
        *,
        wait_initial: float = 0.5,
        wait_max: float = 60.0,
        wait_jitter: float = 0.5,
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts must be a whole number of at least 1, not {attempts!r}")
        if not all(0 <= seconds < inf for seconds in (wait_initial, wait_max, wait_jitter)):
            raise ValueError("wait_initial, wait_max and wait_jitter must be 0 or more seconds")
        # Slow to import, and not needed to list the strategies that there are.
        from tenacity import wait_exponential, wait_random  # noqa: PLC0415

        self.inner = inner
        self.attempts = attempts
        self._chosen = chooser(on)
        self._backoff = wait_exponential(wait_initial, wait_max) + wait_random(0, wait_jitter)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Yield the last outcome of each task."""
        feed = Feed(tasks)
        waiting: dict[int, Outcome] = {}
        kills: Counter[int] = Counter()
        for outcome in self.inner.stream(feed):
            task = feed.task(outcome)
            waiting.pop(task.index, None)
            if outcome.status == "lost":
                kills[task.index] += 1
            if self._is_final(task, outcome, kills[task.index]) or feed.closed:
                del kills[task.index]
                feed.settle(task)
                yield evolve(outcome, attempts=task.attempt)
            else:
                waiting[task.index] = evolve(outcome, attempts=task.attempt)
                feed.put(evolve(task, attempt=task.attempt + 1), after=self._delay(task, outcome))
        yield from waiting.values()

    def _is_final(self, task: Task, outcome: Outcome, kills: int) -> bool:
        if kills == MOST_KILLS and outcome.error is not None:
            outcome.error.add_note(QUARANTINED)
            return True
        return (
            outcome.ok
            or task.attempt >= self.attempts
            or outcome.status == "cancelled"
            or find_stop(outcome.error) is not None
            or not self._chosen(outcome.error)
        )

    def _delay(self, task: Task, outcome: Outcome) -> float:
        from tenacity import RetryCallState, Retrying  # noqa: PLC0415 - as above

        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = task.attempt
        return max(self._backoff(state), retry_after(outcome.error))
