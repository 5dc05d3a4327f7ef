"""What a strategy is: it turns a source of tasks into a stream of outcomes."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from types import FunctionType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

from stratagem.errors import LateBindingWarning, TaskCancelledError, TaskLostError
from stratagem.family import Family
from stratagem.intake import SequenceIntake
from stratagem.invoke import callable_name, failed, invoke, is_awaitable
from stratagem.loops import running_loop, running_on
from stratagem.scope import Scope, current_task, is_given_up, run_scope
from stratagem.snapshot import Running
from stratagem.source import TaskSource
from stratagem.task import Outcome, Status, Task, raisable

__all__ = ["ExecutionStrategy", "StreamingStrategy"]

T = TypeVar("T")


class ExecutionStrategy(ABC):
    """Control how a batch of tasks is executed.

    ``run_tasks`` alone makes a strategy;
    one that can yield outcomes as they end derives from ``StreamingStrategy`` instead.
    A strategy that wraps another keeps it in ``inner``,
    one that stands over several keeps them, by name, in a mapping ``inners``:
    it then closes them, and can do what all of them can.

    Attributes:
        batch_size: how many tasks the default ``stream`` hands to ``run_tasks`` at most.
    """

    batch_size: int = 64

    @abstractmethod
    def run_tasks(self, callables: Sequence[Callable[[], T]]) -> list[T]:
        """Execute callables and return their results, in their order."""

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take tasks and yield one outcome for each.

        By default what is ready goes through ``run_tasks`` in batches of ``batch_size`` at most;
        a batch for which ``run_tasks`` raises or answers wrongly is ``lost``.
        """
        return _stream_in_batches(self, tasks)

    def running(self) -> Iterable[Running]:
        """Tell which tasks have begun and not ended, on all streams, from any thread.

        It is asked now and then, for whoever looks at a run; by default inner strategies tell,
        and one without tells nothing.
        """
        for inner in inner_strategies(self).values():
            yield from inner.running()

    def close(self) -> None:
        """Give back what the strategy holds: workers, loops, and its inner strategies."""
        with ExitStack() as closing:  # each, whatever another one raises
            for inner in inner_strategies(self).values():
                closing.callback(inner.close)

    def __enter__(self) -> Self:
        """Give the strategy itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the strategy."""
        self.close()

    @property
    def can_kill(self) -> bool:
        """Tell whether a running task can be killed."""
        return self._all_can("can_kill")

    @property
    def shares_memory(self) -> bool:
        """Tell whether tasks see and change the caller's objects."""
        return self._all_can("shares_memory")

    @property
    def isolates_crashes(self) -> bool:
        """Tell whether a task that crashes its interpreter leaves the run unharmed."""
        return self._all_can("isolates_crashes")

    @property
    def distributed(self) -> bool:
        """Tell whether tasks may run on other machines."""
        return any(inner.distributed for inner in inner_strategies(self).values())

    @property
    def enforces_timeouts(self) -> bool:
        """Tell whether a task that runs past its timeout ends as ``timeout`` then."""
        return self._all_can("enforces_timeouts")

    @property
    def stop_grace(self) -> float | None:
        """Tell how many seconds what runs gets when a run is stopped; None where that is unknown.

        It is the attribute ``grace`` of the strategy, or the longest of its inner ones.
        """
        own: float | None = getattr(self, "grace", None)
        graces = [inner.stop_grace for inner in inner_strategies(self).values()]
        return max((one for one in (own, *graces) if one is not None), default=None)

    def _all_can(self, capability: str) -> bool:
        inner = inner_strategies(self).values()
        return bool(inner) and all(getattr(strategy, capability) for strategy in inner)


def inner_strategies(strategy: ExecutionStrategy) -> dict[str, ExecutionStrategy]:
    """Give the strategies that one keeps in ``inner``, which has no name, and in ``inners``."""
    several = getattr(strategy, "inners", None)
    given = {"": getattr(strategy, "inner", None)}
    if isinstance(several, Mapping):
        given |= several
    return {name: inner for name, inner in given.items() if isinstance(inner, ExecutionStrategy)}


class StreamingStrategy(ExecutionStrategy):
    """Be a strategy that is written as ``stream``; the other forms come from it."""

    @abstractmethod
    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take tasks, lazily, and yield one outcome for each as it ends."""

    def run_tasks(
        self, callables: Sequence[Callable[[], Any]], *, return_exceptions: bool = False
    ) -> list[Any]:
        """Execute callables and return their results, in their order.

        Args:
            callables: what to call; each may return an awaitable.
            return_exceptions: put exceptions in the place of results.

        Raises:
            Exception: the first failure in time, as it was raised, unless ``return_exceptions``;
                tasks not begun by then never begin.
        """
        warn_of_late_binding(callables, stacklevel=2)
        return Batch(callables, self).results(return_exceptions=return_exceptions)

    async def run_tasks_async(
        self, callables: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        """Execute callables or awaitables while the loop goes on; async ones run on it.

        Otherwise as ``run_tasks``.
        """
        from stratagem.event_loops import call_in_thread  # noqa: PLC0415 - asyncio is slow to import

        warn_of_late_binding(callables, stacklevel=2)
        with running_on(running_loop()):
            batch = Batch([as_call(given) for given in callables], self)
        try:
            return await call_in_thread(
                lambda: batch.results(return_exceptions=return_exceptions), on_cancel=batch.stop
            )
        finally:
            for given in callables:
                if inspect.iscoroutine(given):
                    given.close()


class _Given:
    """Give an awaitable that exists already, as a call would."""

    def __init__(self, awaitable: Any) -> None:
        self._awaitable = awaitable

    def __call__(self) -> Any:
        return self._awaitable

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an awaitable stays in its process; "
            "pass what makes it, such as `functools.partial(ask, question)` for `ask(question)`"
        )


def as_call(given: Any) -> Callable[[], Any]:
    """Give a callable as it is, and an awaitable as a call that gives it."""
    return _Given(given) if is_awaitable(given) else given


class Batch:
    """Be callables that a strategy runs by itself, without an engine."""

    def __init__(
        self,
        callables: Sequence[Callable[[], Any]],
        strategy: ExecutionStrategy,
        *,
        is_nested: bool = False,
    ) -> None:
        self.is_nested = is_nested
        self._size = len(callables)
        outer, parent = run_scope.get(), current_task()
        self._prefix = "" if parent is None else f"{parent.key}/"
        with running_on(None):
            self._context = copy_context()
        run_id = "" if outer is None else outer.run_id
        self._family = Family()
        scope = Scope(run_id, lambda calls: Batch(calls, strategy, is_nested=True), self._family)
        self._context.run(run_scope.set, scope)
        self._source = SequenceIntake(callables, self._make)
        self._answers = strategy.stream(self._source)
        self._outcomes: dict[int, Outcome] = {}
        self._kin = None
        if parent is not None and outer is not None:
            self.parent_index = parent.index
            self._kin = outer.family
            self._kin.join(self)
            if is_given_up():
                self.stop()

    def _make(self, index: int, call: Callable[[], Any]) -> Task:
        return Task(
            index, f"{self._prefix}{index}", callable_name(call), call, context=self._context
        )

    @property
    def succeeded(self) -> int:
        """Count the tasks that succeeded in it, and in what they started."""
        own = sum(outcome.ok for outcome in list(self._outcomes.values()))
        return own + self._family.count_succeeded()

    def stop(self, _why: str = "closed") -> None:
        """Start no further task, and cancel what can be cancelled."""
        self._source.close()
        self._family.stop()

    def hurry(self) -> None:
        """Wait for nothing that runs."""
        self._source.hurry()
        self._family.hurry()

    def values(self) -> list[Any]:
        """Run to the end; give the values, or raise the first failure in time."""
        return self.results()

    def results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Run to the end; give the values, and with ``return_exceptions`` the errors too."""
        outcomes = self._outcomes
        failure: Outcome | None = None
        for outcome in self._answers:
            outcomes[outcome.index] = outcome
            if not (outcome.ok or return_exceptions or failure):
                failure = outcome
                self.stop()
        if self._kin is not None:
            self._kin.leave(self)
        if self._source.failure is not None:
            raise self._source.failure
        if failure is not None:
            raise raisable(failure)
        if not return_exceptions and len(outcomes) < self._size:
            missing = next(index for index in range(self._size) if index not in outcomes)
            raise TaskCancelledError(str(missing), "the strategy was closed before it began")
        return [self._result(outcomes.get(index), index) for index in range(self._size)]

    def _result(self, outcome: Outcome | None, index: int) -> Any:
        if outcome is None:
            return TaskCancelledError(str(index))
        return outcome.value if outcome.error is None else outcome.error


def stays_here(strategy: ExecutionStrategy) -> NoReturn:
    """Refuse to be pickled, as the ``__reduce__`` of a strategy that holds threads or processes.

    Raises:
        TypeError: always, saying what a task elsewhere does instead.
    """
    raise TypeError(
        f"a {type(strategy).__name__} stays in its process; a task in another one has its "
        "children run by `stratagem.nested`, or names a strategy by a spec"
    )


class Attempt:
    """Call a task where ``run_tasks`` pleases, giving its outcome and never raising."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self) -> Outcome:
        """Run the task."""
        return invoke(self.task)


def _stream_in_batches(strategy: ExecutionStrategy, tasks: TaskSource) -> Iterator[Outcome]:
    try:
        while batch := _ready(tasks, strategy.batch_size):
            yield from _run_batch(strategy, batch)
    finally:
        tasks.close()


def _ready(tasks: TaskSource, most: int) -> list[Task]:
    first = tasks.take()
    batch = [] if first is None else [first]
    while batch and len(batch) < most and isinstance(task := tasks.poll(), Task):
        batch.append(task)
    return batch


def _run_batch(strategy: ExecutionStrategy, batch: list[Task]) -> Iterator[Outcome]:
    name = type(strategy).__name__
    waiting = {task.index: task for task in batch}
    problem = f"{name}.run_tasks gave no answer for it"
    cause: BaseException | None = None
    answers: list[Any] = []
    try:
        answers = list(strategy.run_tasks([Attempt(task) for task in batch]))
    except BaseException as error:  # noqa: BLE001 - costs this batch, and no other
        cause = error
        problem = f"{name}.run_tasks raised {type(error).__name__}: {error}"
    if cause is None and len(answers) != len(batch):
        problem = f"{name}.run_tasks gave {len(answers)} results for {len(batch)} callables"
        answers = []
    for answer in answers:
        if isinstance(answer, Outcome) and waiting.pop(answer.index, None) is not None:
            yield answer
    for task in waiting.values():
        lost = TaskLostError(task.key, problem)
        lost.__cause__ = cause
        yield failed(task, lost, Status.LOST)


def cancelled(task: Task, why: str = "the run was stopped") -> Outcome:
    """Give the outcome of a task that was stopped with its run."""
    return failed(task, TaskCancelledError(task.key, why), Status.CANCELLED)


def warn_of_late_binding(callables: object, *, stacklevel: int) -> None:
    """Warn, once, when two callables in a row are one function over one shared closure cell."""
    if not isinstance(callables, Sequence):
        return
    previous: object = None
    for call in callables[:100]:
        if shares_its_variables(call, previous):
            warnings.warn(late_binding_advice(call), LateBindingWarning, stacklevel=stacklevel + 1)
            return
        previous = call


def shares_its_variables(call: object, previous: object) -> bool:
    """Tell whether two function objects can only ever do the same, over one closure."""
    return (
        type(call) is FunctionType
        and type(previous) is FunctionType
        and call is not previous
        and call.__code__ is previous.__code__
        and call.__closure__ is not None
        and previous.__closure__ is not None
        and all(a is b for a, b in zip(call.__closure__, previous.__closure__, strict=True))
        and call.__defaults__ == previous.__defaults__
        and call.__kwdefaults__ == previous.__kwdefaults__
    )


def late_binding_advice(call: object) -> str:
    """Say what is wrong with callables that share a variable, and how to write them."""
    assert isinstance(call, FunctionType)
    names = ", ".join(call.__code__.co_freevars)
    first = call.__code__.co_freevars[0]
    return (
        f"several callables are one function ({call.__qualname__}) over the same variables "
        f"({names}), so every one of them uses their last values; bind the value when the callable "
        f"is made: `functools.partial(function, {first})`, or `lambda {first}={first}: ...`, "
        "or hand the items to `map`"
    )
