"""Calls on their way from who submits them to a strategy, each with its future."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextvars import Context
from typing import Any

from stratagem.invoke import callable_name, is_async
from stratagem.source import TaskSource
from stratagem.task import Outcome, Status, Task, Wait

__all__ = ["Submission", "Submissions"]

_FOREVER = Wait()


class Submission:
    """Be one submitted call, from ``submit`` until its future is resolved.

    Args:
        index: its number, from 0.
        call: what to call.
        context: the context variables to run a copy of.
        parent: the key of the task that submitted it; None for none.
    """

    def __init__(
        self, index: int, call: Callable[[], Any], context: Context, parent: str | None
    ) -> None:
        self.index = index
        self.call = call
        self.future: Future[Any] = Future()
        self._context = context
        self._parent = parent
        self._beginning = threading.Lock()
        self._begun: bool | None = None

    def begin(self) -> bool:
        """Have the future run, unless it was cancelled; tell whether. The first time decides.

        Who waits for a cancelled future hears of it here.
        """
        with self._beginning:
            if self._begun is None:
                self._begun = self.future.set_running_or_notify_cancel()
            return self._begun

    def task(self, *, tells: bool) -> Task:
        """Give the task to run.

        Args:
            tells: the call itself says when it begins, as it can where memory is shared.
        """
        call = self.call
        if tells:
            call = _CoroutineBegins(self) if is_async(call) else _Begins(self)
        name = callable_name(self.call)
        return Task(
            self.index, str(self.index), name, call, context=self._context, parent=self._parent
        )

    def resolve(self, outcome: Outcome) -> None:
        """Have the future be what became of the call."""
        if outcome.status is Status.CANCELLED:
            self.cancel(outcome.error)
        elif outcome.error is not None:
            self.fail(outcome.error)
        elif self.begin():
            self.future.set_result(outcome.value)

    def cancel(self, why: BaseException | None) -> None:
        """Cancel the future; what runs can't be, and ends with a ``CancelledError`` instead."""
        self.future.cancel()
        if self.begin():
            error = CancelledError("it was stopped with its strategy")
            error.__cause__ = why
            self.future.set_exception(error)

    def fail(self, error: BaseException) -> None:
        """End the future with an error."""
        if self.begin():
            self.future.set_exception(error)


class _Begins:
    """Call what was submitted, and say that it begins."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    def __call__(self) -> Any:
        return self._submission.call() if self._submission.begin() else None


class _CoroutineBegins:
    """Call a coroutine function that was submitted, and say that it begins."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    async def __call__(self) -> Any:
        return await self._submission.call() if self._submission.begin() else None


class Submissions(TaskSource):
    """Hand out what was submitted, until the end is called and nothing is left.

    Args:
        make: gives the task of a submission; None where it was cancelled.
    """

    def __init__(self, make: Callable[[Submission], Task | None]) -> None:
        super().__init__()
        self._make = make
        self._waiting: deque[Submission] = deque()
        self._ended = False

    def put(self, submission: Submission) -> None:
        """Hand out this one too."""
        self._waiting.append(submission)
        self.wake()

    def end(self) -> None:
        """Be over when nothing is left."""
        self._ended = True
        self.wake()

    def poll(self) -> Task | Wait | None:
        """Give what was submitted first."""
        while not self._closed:
            ended = self._ended  # first: what was put before the end must be found
            try:
                submission = self._waiting.popleft()
            except IndexError:
                return None if ended else _FOREVER
            task = self._make(submission)
            if task is not None:
                return task
        return None
