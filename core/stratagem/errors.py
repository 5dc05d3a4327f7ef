"""Errors that stratagem raises or records, one leaf per decision a caller can take.

::

    StratagemError
    ├── SpecError (ValueError)            a strategy specification cannot be read or built
    │   ├── UnknownStrategyError          no installed plugin gives that name
    │   ├── AmbiguousStrategyError        several distributions give that name
    │   ├── PositionalOptionError         an option is given without its name
    │   └── StrategyOptionError           an option is unknown, missing, or refused
    ├── ConfigurationError                a configuration file or environment variable is wrong
    ├── CapabilityError                   a strategy was asked for what it cannot do
    ├── PluginError                       a plugin object does not fit the hooks
    ├── DuplicateKeyError (ValueError)    two inputs have one key
    ├── NestingError (RuntimeError)       a run was started where none may start
    ├── BudgetError (RuntimeError)        a budget was asked for where it can't be had
    ├── WorkerStartError                  worker processes die before they are ready
    ├── ClusterError                      an engine elsewhere cannot be used, or was lost
    ├── TransportError                    a task or its result cannot cross a process border
    ├── AbandonedThreadsError             too many tasks that could not be stopped run on
    ├── StopRun                           a task says that the run is to end
    ├── TaskTimeoutError (TimeoutError)   a task ran past its timeout
    ├── TaskCancelledError                a task was stopped with its run
    ├── TaskLostError                     the worker of a task died, or never answered
    ├── TaskExitError                     a task tried to end the interpreter
    └── RemoteError                       what stands for an exception of another process

    RunInterrupted (KeyboardInterrupt)    a signal stopped the run
    LateBindingWarning (UserWarning)      several callables share one loop variable
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratagem.report import Report

__all__ = [
    "AbandonedThreadsError",
    "AmbiguousStrategyError",
    "BudgetError",
    "CapabilityError",
    "ClusterError",
    "ConfigurationError",
    "DuplicateKeyError",
    "LateBindingWarning",
    "NestingError",
    "PluginError",
    "PositionalOptionError",
    "RemoteError",
    "RunInterrupted",
    "SpecError",
    "StopRun",
    "StratagemError",
    "StrategyOptionError",
    "TaskCancelledError",
    "TaskExitError",
    "TaskLostError",
    "TaskTimeoutError",
    "TransportError",
    "UnknownStrategyError",
    "WorkerStartError",
]


class StratagemError(Exception):
    """Be the root of every error that stratagem makes.

    Attributes:
        exit_code: what the command line exits with where it ends a run.
    """

    exit_code: int = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, since the arguments of the leaves are not their message."""
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class SpecError(StratagemError, ValueError):
    """Say that a strategy specification cannot be read.

    Attributes:
        spec: the text or table as it was given.
        hint: the right form, when one can be told.
    """

    def __init__(self, problem: str, *, spec: object = None, hint: str = "") -> None:
        self.spec = spec
        self.hint = hint
        where = "" if spec is None else f" in strategy spec {spec!r}"
        super().__init__(f"{problem}{where}" + (f"; {hint}" if hint else ""))


class UnknownStrategyError(SpecError):
    """Say that no installed plugin gives a strategy of that name.

    Attributes:
        name: the name that was asked for.
        known: the names there are, nearest first.
    """

    def __init__(
        self, name: str, known: Iterable[str], *, failed: Iterable[str] = (), spec: object = None
    ) -> None:
        self.name = name
        names = sorted(known)
        import difflib  # noqa: PLC0415 - needed only to complain

        near = difflib.get_close_matches(name, names, n=max(1, len(names)), cutoff=0.5)
        self.known = near + [other for other in names if other not in near]
        problem = f"unknown strategy {name!r}; known are: {', '.join(self.known) or 'none'}"
        broken = "; ".join(failed)
        super().__init__(
            problem,
            spec=None if spec == name else spec,
            hint=f"failed to load: {broken}" * bool(broken),
        )


class AmbiguousStrategyError(SpecError):
    """Say that several distributions give a strategy of that name.

    Attributes:
        name: the name that was asked for.
        choices: the forms ``distribution:name`` that tell them apart.
    """

    def __init__(self, name: str, distributions: Iterable[str]) -> None:
        self.name = name
        self.choices = [f"{distribution}:{name}" for distribution in sorted(distributions)]
        super().__init__(
            f"strategy {name!r} is given by {len(self.choices)} plugins",
            hint=f"choose one: {' or '.join(self.choices)}",
        )


class PositionalOptionError(SpecError):
    """Say that an option of a strategy is given without its name.

    Attributes:
        strategy: the name of the strategy.
        given: what was given, as text.
    """

    def __init__(
        self, strategy: str, given: str, *, spec: object = None, option: str = "option"
    ) -> None:
        self.strategy = strategy
        self.given = given
        super().__init__(
            f"{given!r} is given to {strategy!r} without the name of an option",
            spec=spec,
            hint=f"only strategies are given by position; write {strategy}({option}={given})",
        )


class StrategyOptionError(SpecError):
    """Say that an option of a strategy is unknown, missing, or refused by it.

    Attributes:
        strategy: the name of the strategy.
        options: the options there are.
    """

    def __init__(
        self, strategy: str, problem: str, *, options: Iterable[str] = (), hint: str = ""
    ) -> None:
        self.strategy = strategy
        self.options = list(options)
        there_are = f"its options are: {', '.join(self.options) or 'none'}"
        super().__init__(f"strategy {strategy!r}: {problem}", hint=hint or there_are)


class ConfigurationError(StratagemError):
    """Say which file or variable holds a setting that cannot be used."""


class CapabilityError(StratagemError):
    """Say that a strategy was asked for what it cannot do, and which can."""


class PluginError(StratagemError):
    """Say that an object given as a plugin does not fit the hooks."""


class DuplicateKeyError(StratagemError, ValueError):
    """Say that two inputs have one key.

    Attributes:
        key: the key.
        positions: the indexes of both inputs, from 0.
    """

    def __init__(self, key: str, positions: tuple[int, int]) -> None:
        self.key = key
        self.positions = positions
        first, second = positions
        super().__init__(
            f"inputs {first} and {second} have the same key {key!r}; "
            "keys name tasks, so let `key` give each input its own"
        )


class NestingError(StratagemError, RuntimeError):
    """Say that a run was started where none may start, and what to do instead."""


class BudgetError(StratagemError, RuntimeError):
    """Say that a budget was asked for where it can't be had, and what to do instead."""


class WorkerStartError(StratagemError):
    """Say that worker processes cannot start.

    Attributes:
        start_method: how they were started.
        exitcode: the exit code of the last one, negative for a signal; None when there was none.
        problem: why it could not start, where it could tell, else ``""``.
        stderr: the end of what it wrote to stderr.
        remote_traceback: the formatted traceback of what was raised in it, else ``""``.
    """

    def __init__(
        self,
        start_method: str,
        exitcode: int | None,
        *,
        stderr: str = "",
        problem: str = "",
        remote_traceback: str = "",
    ) -> None:
        self.start_method = start_method
        self.exitcode = exitcode
        self.problem = problem
        self.stderr = stderr
        self.remote_traceback = remote_traceback
        how = (
            f"cannot start: {problem}"
            if problem
            else f"die before they are ready, the last one with exit code {exitcode}"
        )
        said = f"what it wrote to stderr ends with\n{stderr.strip()}\n" if stderr.strip() else ""
        if not (said or problem):
            said = "what they said stands on stderr. "
        guard = "" if problem and "__main__" not in problem else _GUARD
        rest = said + guard
        super().__init__(f"worker processes ({start_method}) {how}" + (f"; {rest}" * bool(rest)))


_GUARD = 'A script that starts workers needs `if __name__ == "__main__":` around what it runs'


class ClusterError(StratagemError):
    """Say that an engine elsewhere cannot be reached, cannot run tasks, or was lost on the way."""


class TransportError(StratagemError):
    """Say that a task or its result cannot cross a process border.

    Attributes:
        stage: ``encode_task``, ``decode_task``, ``encode_result`` or ``decode_result``.
        shown: the start of ``repr`` of the result that could not travel, else ``""``.
    """

    def __init__(self, stage: str, problem: str, *, shown: str = "") -> None:
        self.stage = stage
        self.shown = shown
        super().__init__(f"{stage}: {problem}" + (f"; the value was {shown}" if shown else ""))


class StopRun(StratagemError):
    """Say, from inside a task, that no further task of the run should start.

    ``raise StopRun("the quota is used up")``: the task fails with it, what runs has the grace of
    the strategy to end, and the report says why. It is never tried again.

    Attributes:
        reason: why, in a few words for people.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class TaskTimeoutError(StratagemError, TimeoutError):
    """Record that a task ran past its timeout.

    Attributes:
        key: the key of the task.
        timeout: the seconds it had.
        abandoned: whether it could not be stopped and runs on unobserved.
        stack: where it was then, as a traceback is written; empty where no frame of Python tells.
    """

    def __init__(
        self, key: str, timeout: float, *, abandoned: bool = False, stack: str = ""
    ) -> None:
        self.key = key
        self.timeout = timeout
        self.abandoned = abandoned
        self.stack = stack
        end = "it could not be stopped and was abandoned" if abandoned else "it was stopped"
        lines = [line.strip() for line in stack.splitlines() if line.lstrip().startswith("File ")]
        where = f" at {lines[-1]}" if lines else ""
        super().__init__(f"task {key!r} ran past its timeout of {timeout:g} s; {end}{where}")


class AbandonedThreadsError(StratagemError):
    """Say that too many tasks that could not be stopped run on, so that the run was ended.

    Attributes:
        count: how many there are.
        most: how many there may be.
    """

    def __init__(self, count: int, most: int) -> None:
        self.count = count
        self.most = most
        super().__init__(
            f"{count} tasks could not be stopped at their timeouts and run on in threads of their "
            f"own, more than max_abandoned={most}; give what they call a timeout of its own, "
            "or run them under `processes`, which can kill"
        )


class TaskCancelledError(StratagemError):
    """Record that a task was stopped with its run, or never begun."""

    def __init__(self, key: str, why: str = "the run was stopped") -> None:
        self.key = key
        self.why = why
        super().__init__(f"task {key!r} was cancelled: {why}")


class TaskLostError(StratagemError):
    """Record that the worker of a task died, or that its strategy never answered.

    Attributes:
        key: the key of the task.
        exitcode: the exit code of the worker, negative for a signal; None when there is none.
        stack: the Python stack of a worker that crashed, which is a note too; else ``""``.
        reason: ``"oom"`` where the kernel killed the worker for want of memory, else None.
    """

    def __init__(
        self,
        key: str,
        why: str,
        *,
        exitcode: int | None = None,
        stack: str = "",
        reason: str | None = None,
    ) -> None:
        self.key = key
        self.why = why
        self.exitcode = exitcode
        self.stack = stack
        self.reason = reason
        super().__init__(f"task {key!r} was lost: {why}")
        if stack:
            self.add_note(stack.rstrip())


class TaskExitError(StratagemError):
    """Stand for an exception that would end the caller's interpreter, such as SystemExit.

    Raised where the exception of a failed task would be raised; ``__cause__`` is the original.
    """

    def __init__(self, key: str, original: BaseException) -> None:
        self.key = key
        super().__init__(f"task {key!r} raised {type(original).__name__}: {original}")
        self.__cause__ = original


class RemoteError(StratagemError):
    """Stand for an exception of another process that could not be rebuilt here.

    Plain attributes of the original, such as ``status_code``, are attributes of this one.

    Attributes:
        type_name: the dotted name of its type.
        bases: the dotted names of the type and all its bases, nearest first.
        message: what ``str`` gave there.
        remote_traceback: the formatted traceback from there.
        attributes: the plain attributes of the original.
    """

    def __init__(
        self,
        type_name: str,
        message: str,
        *,
        bases: Iterable[str] = (),
        remote_traceback: str = "",
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.type_name = type_name
        self.message = message
        self.bases = tuple(bases)
        self.remote_traceback = remote_traceback
        self.attributes = dict(attributes or {})
        super().__init__(f"{type_name}: {message}")

    def __getattr__(self, name: str) -> object:
        """Give a plain attribute of the original."""
        attributes = self.__dict__.get("attributes", {})
        if name in attributes:
            return attributes[name]
        raise AttributeError(name)


class RunInterrupted(KeyboardInterrupt):
    """Say that a signal stopped the run.

    Attributes:
        report: what was done until then.
        signum: the number of the signal.
    """

    def __init__(self, signum: int, report: "Report") -> None:
        self.signum = signum
        self.report = report
        super().__init__(f"interrupted by signal {signum} after {len(report)} tasks")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, as StratagemError does."""
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class LateBindingWarning(UserWarning):
    """Warn that several callables share one loop variable, so all see its last value."""
