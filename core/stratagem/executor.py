"""An executor of the standard library whose calls are run by a strategy.

``StrategyExecutor`` is what callers hold; the ``_Desk`` behind it does the work and holds no
reference to it, so that an executor which nobody holds any more can be collected.
"""

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

from stratagem.default import default_engine
from stratagem.loops import LOOK_UP, running_on
from stratagem.options import require_count
from stratagem.scope import Scope, current_task, run_scope
from stratagem.selection import SpecLike
from stratagem.strategy import Batch, ExecutionStrategy
from stratagem.submissions import Submission, Submissions
from stratagem.task import Task

__all__ = ["StrategyExecutor"]

T = TypeVar("T")

_log = logging.getLogger("stratagem")


class StrategyExecutor(Executor):
    """Be a ``concurrent.futures.Executor`` that runs what is submitted under a strategy.

    A future runs from when its call begins. Where calls run in other processes it runs from when
    the strategy takes the call, which it does a bit ahead, as a ``ProcessPoolExecutor`` does.
    One that was cancelled before never runs.
    The callbacks of futures are called in one thread, which must not wait for further futures.

    Args:
        strategy: a spec, whose strategy is closed when the executor was shut down and all is done,
            or a strategy object, which stays open; None for what is configured.

    Raises:
        SpecError, ConfigurationError: no strategy can be made of what is asked for.
    """

    def __init__(self, strategy: "SpecLike | ExecutionStrategy | None" = None) -> None:
        if isinstance(strategy, ExecutionStrategy):
            self._desk = _Desk(strategy, closes=False)
        else:
            self._desk = _Desk(default_engine().strategy(strategy), closes=True)
        weakref.finalize(self, self._desk.end).atexit = False

    @property
    def strategy(self) -> ExecutionStrategy:
        """Give the strategy that runs the calls."""
        return self._desk.strategy

    @property
    def shares_memory(self) -> bool:
        """Tell whether calls see and change the caller's objects."""
        return self._desk.strategy.shares_memory

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Have ``fn`` called with the arguments, and give the future of what it returns.

        It runs in a copy of the context variables that stand here, where memory is shared;
        an awaitable that it returns is awaited.

        Raises:
            BrokenExecutor: the strategy itself has failed.
            RuntimeError: the executor was shut down, or its strategy closed.
        """
        return self._desk.submit(partial(fn, *args, **kwargs) if args or kwargs else fn)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call ``fn`` with the items and give what it returns, in their order.

        Args:
            fn: what to call.
            iterables: where its arguments come from.
            timeout: seconds from now in which all of it must be there.
            chunksize: ignored, as by a ``ThreadPoolExecutor``: strategies make batches themselves.
            buffersize: how many calls to submit ahead of what was read; None for all at once.

        Raises:
            TimeoutError: it is not.
            ValueError: ``buffersize`` is no count.
        """
        if buffersize is None:
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)
        deadline = None if timeout is None else time.monotonic() + timeout
        futures = (self.submit(fn, *given) for given in zip(*iterables, strict=False))
        ahead = deque(itertools.islice(futures, require_count("buffersize", buffersize)))
        return _in_order(ahead, futures, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as the standard library has it
        """Take no further call; those that were submitted still run.

        Args:
            wait: return only when they have ended, and a strategy that was made here is closed.
            cancel_futures: cancel those that have not begun.
        """
        self._desk.end(cancel=cancel_futures)
        if wait:
            self._desk.wait()


def _in_order(
    ahead: "deque[Future[T]]", further: "Iterator[Future[T]]", deadline: float | None
) -> Iterator[T]:
    try:
        while ahead:
            ahead[0].exception(None if deadline is None else deadline - time.monotonic())
            ahead.extend(itertools.islice(further, 1))
            yield ahead.popleft().result()  # without a name, which would hold what the caller drops
    finally:
        for future in ahead:
            future.cancel()


class _Desk:
    """Take calls in, have the strategy run them, and answer for them.

    One thread reads the outcomes of one stream, which lives as long as the executor.

    Args:
        strategy: runs the calls.
        closes: whether to close it when all is done.
    """

    def __init__(self, strategy: ExecutionStrategy, *, closes: bool) -> None:
        self.strategy = strategy
        self._closes = closes
        self._tells = strategy.shares_memory
        # A garbage collection that drops the executor may come back here in the same thread.
        self._lock = threading.RLock()
        self._open: dict[int, Submission] = {}
        self._numbers = itertools.count()
        self._source = Submissions(self._task)
        self._reader: threading.Thread | None = None
        self._is_shut = False
        self._failure: BaseException | None = None
        self._scope = Scope(
            os.urandom(6).hex(), lambda calls: Batch(calls, strategy, is_nested=True)
        )
        self._elsewhere = Context()
        self._elsewhere.run(run_scope.set, self._scope)

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Take a call in."""
        context = self._context_here() if self._tells else self._elsewhere
        parent = current_task()
        with self._lock:
            if self._failure is not None:
                raise self._broken()
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._reader is None:
                self._reader = self._start()
            index = next(self._numbers)
            key = None if parent is None else parent.key
            submission = self._open[index] = Submission(index, call, context, key)
        self._source.put(submission)
        return submission.future

    def _context_here(self) -> Context:
        with running_on(None):
            context = copy_context()
        context.run(run_scope.set, self._scope)
        return context

    def _start(self) -> threading.Thread:
        reader = threading.Thread(
            target=Context().run, args=(self._read,), name="stratagem-executor", daemon=True
        )
        reader.start()
        # It is called before what the strategy has registered: that was there first.
        atexit.register(self._finish)
        return reader

    def _task(self, submission: Submission) -> Task | None:
        """Give the task of a submission to the strategy, which takes it now."""
        if (submission.future.cancelled() or not self._tells) and not submission.begin():
            self._open.pop(submission.index, None)
            return None
        return submission.task(tells=self._tells)

    def _read(self) -> None:
        failure: BaseException | None = None
        try:
            for outcome in self.strategy.stream(self._source):
                submission = self._open.pop(outcome.index, None)
                if submission is not None:
                    _answer(submission.resolve, outcome)
                # The stream sleeps with this outcome in hand, and would keep alive what it holds.
                outcome.value = outcome.error = None
                del outcome, submission
        except BaseException as error:  # noqa: BLE001 - it is what futures and submits tell from now on
            failure = error
        self._leave(failure)

    def _leave(self, failure: BaseException | None) -> None:
        """Answer for what has no answer, and close what is ours."""
        with self._lock:
            self._is_shut, self._failure = True, failure
            unanswered = list(self._open.values())
            self._open.clear()
        if unanswered or failure is not None:
            self._scope.family.stop()
        for submission in unanswered:
            if failure is None:
                _answer(submission.cancel, None)
            else:
                _answer(submission.fail, self._broken())
        if self._closes:
            self.strategy.close()
        atexit.unregister(self._finish)

    def _broken(self) -> BrokenExecutor:
        error = BrokenExecutor(
            f"strategy {type(self.strategy).__name__} has failed: {self._failure}"
        )
        error.__cause__ = self._failure
        return error

    def end(self, *, cancel: bool = False) -> None:
        """Take no further call; ``cancel`` those that have not begun."""
        with self._lock:
            is_first, self._is_shut = not self._is_shut, True
            idle = self._reader is None
            waiting = list(self._open.values()) if cancel else []
        for submission in waiting:
            if submission.future.cancel():
                submission.begin()
        self._source.end()
        if is_first and idle and self._closes:
            self.strategy.close()

    def wait(self) -> None:
        """Wait until all is done; in a callback of a future, for nothing."""
        reader = self._reader
        if reader is not None and reader is not threading.current_thread():
            while reader.is_alive():
                reader.join(LOOK_UP)

    def _finish(self) -> None:
        self.end()
        self.wait()


def _answer(resolve: Callable[[Any], None], answer: object) -> None:
    """Resolve a future, whatever its callbacks raise: others wait for their answers too."""
    try:
        resolve(answer)
    except BaseException:  # noqa: BLE001 - callbacks are user code
        _log.exception("executor_callback_failed: a callback of a future raised")
