"""Run batches of agent tasks under an execution strategy chosen by one word.

The tree stands on itself without a circle, lowest first:

- ``errors``, ``hookspecs``, ``keys``, ``tags``, ``files``, then ``task``, ``snapshot``,
  ``terminal``, ``redaction``: the values, and rules on them.
- ``source``, ``stages``, ``submissions``, ``intake``, ``async_intake``, ``expansion``: where
  tasks come from;
  ``scope``, ``loops``, ``loop_thread``, ``event_loops``, ``invoke``: what runs where a task runs;
  ``family``: the runs that it starts; ``budget``: limits by name; ``report``; ``plugins``.
- ``outbox``, ``consuming``, ``slots``, ``threads``: what strategies are built of;
  ``strategy``, ``transport``; ``hosts``, ``parcels``, ``carriers``, ``on_executor``: the strategy
  that is an executor of the standard library.
- ``remote``: what strategies on other engines are built of.
- ``specs``, ``selection``, ``configuration``: from a word to a strategy.
- ``run``, ``signals``, ``watch``, ``plan``, ``numbering``, ``verdict``, ``stream``,
  ``async_stream``, ``engine``: the pipeline.
- ``default``, ``nesting``, ``orchestrators``, ``executor``, ``cli``, ``testing``: what people call.

No module here imports a plugin: the strategies that ship with it live in ``stratagem_builtin``
and come in by entry point like any other.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratagem.async_stream import AsyncStream
    from stratagem.budget import Budget
    from stratagem.consuming import Producer, outcomes_of
    from stratagem.default import (
        aexpand,
        amap,
        arun,
        astream,
        default_engine,
        expand,
        map,  # noqa: A004 - the word for it
        run,
        strategy,
        stream,
        stream_map,
    )
    from stratagem.engine import Engine
    from stratagem.errors import (
        AbandonedThreadsError,
        AmbiguousStrategyError,
        BudgetError,
        CapabilityError,
        ClusterError,
        ConfigurationError,
        DuplicateKeyError,
        LateBindingWarning,
        NestingError,
        PluginError,
        PositionalOptionError,
        RemoteError,
        RunInterrupted,
        SpecError,
        StopRun,
        StratagemError,
        StrategyOptionError,
        TaskCancelledError,
        TaskExitError,
        TaskLostError,
        TaskTimeoutError,
        TransportError,
        UnknownStrategyError,
        WorkerStartError,
    )
    from stratagem.executor import StrategyExecutor
    from stratagem.expansion import Expansion
    from stratagem.hookspecs import hookimpl
    from stratagem.invoke import invoke, is_async
    from stratagem.nesting import nested, nested_async
    from stratagem.on_executor import ExecutorStrategy
    from stratagem.orchestrators import (
        Answer,
        IdeaToQuestionsOrchestrator,
        UserQuestionOrchestrator,
    )
    from stratagem.outbox import Outbox
    from stratagem.plugins import StrategyInfo
    from stratagem.redaction import Redactor
    from stratagem.report import HookFailure, Report
    from stratagem.run import Run
    from stratagem.scope import CurrentTask, current_task, thread_context
    from stratagem.snapshot import Running, RunningTask, Snapshot
    from stratagem.source import Feed, TaskSource
    from stratagem.strategy import ExecutionStrategy, StreamingStrategy
    from stratagem.stream import Stream
    from stratagem.task import Outcome, Status, Task, Wait
    from stratagem.terminal import authentication_failed

__all__ = [
    "AbandonedThreadsError",
    "AmbiguousStrategyError",
    "Answer",
    "AsyncStream",
    "Budget",
    "BudgetError",
    "CapabilityError",
    "ClusterError",
    "ConfigurationError",
    "CurrentTask",
    "DuplicateKeyError",
    "Engine",
    "ExecutionStrategy",
    "ExecutorStrategy",
    "Expansion",
    "Feed",
    "HookFailure",
    "IdeaToQuestionsOrchestrator",
    "LateBindingWarning",
    "NestingError",
    "Outbox",
    "Outcome",
    "PluginError",
    "PositionalOptionError",
    "Producer",
    "Redactor",
    "RemoteError",
    "Report",
    "Run",
    "RunInterrupted",
    "Running",
    "RunningTask",
    "Snapshot",
    "SpecError",
    "Status",
    "StopRun",
    "StratagemError",
    "StrategyExecutor",
    "StrategyInfo",
    "StrategyOptionError",
    "Stream",
    "StreamingStrategy",
    "Task",
    "TaskCancelledError",
    "TaskExitError",
    "TaskLostError",
    "TaskSource",
    "TaskTimeoutError",
    "TransportError",
    "UnknownStrategyError",
    "UserQuestionOrchestrator",
    "Wait",
    "WorkerStartError",
    "aexpand",
    "amap",
    "arun",
    "astream",
    "authentication_failed",
    "current_task",
    "default_engine",
    "expand",
    "hookimpl",
    "invoke",
    "is_async",
    "map",
    "nested",
    "nested_async",
    "outcomes_of",
    "run",
    "strategy",
    "stream",
    "stream_map",
    "thread_context",
]

_HOMES = {
    "AbandonedThreadsError": "errors",
    "AmbiguousStrategyError": "errors",
    "Answer": "orchestrators",
    "AsyncStream": "async_stream",
    "Budget": "budget",
    "BudgetError": "errors",
    "CapabilityError": "errors",
    "ClusterError": "errors",
    "ConfigurationError": "errors",
    "CurrentTask": "scope",
    "DuplicateKeyError": "errors",
    "Engine": "engine",
    "ExecutionStrategy": "strategy",
    "ExecutorStrategy": "on_executor",
    "Expansion": "expansion",
    "Feed": "source",
    "HookFailure": "report",
    "IdeaToQuestionsOrchestrator": "orchestrators",
    "LateBindingWarning": "errors",
    "NestingError": "errors",
    "Outbox": "outbox",
    "Outcome": "task",
    "PluginError": "errors",
    "PositionalOptionError": "errors",
    "Producer": "consuming",
    "Redactor": "redaction",
    "RemoteError": "errors",
    "Report": "report",
    "Run": "run",
    "RunInterrupted": "errors",
    "Running": "snapshot",
    "RunningTask": "snapshot",
    "Snapshot": "snapshot",
    "SpecError": "errors",
    "Status": "task",
    "StopRun": "errors",
    "StratagemError": "errors",
    "StrategyExecutor": "executor",
    "StrategyInfo": "plugins",
    "StrategyOptionError": "errors",
    "Stream": "stream",
    "StreamingStrategy": "strategy",
    "Task": "task",
    "TaskCancelledError": "errors",
    "TaskExitError": "errors",
    "TaskLostError": "errors",
    "TaskSource": "source",
    "TaskTimeoutError": "errors",
    "TransportError": "errors",
    "UnknownStrategyError": "errors",
    "UserQuestionOrchestrator": "orchestrators",
    "Wait": "task",
    "WorkerStartError": "errors",
    "aexpand": "default",
    "amap": "default",
    "arun": "default",
    "astream": "default",
    "authentication_failed": "terminal",
    "current_task": "scope",
    "default_engine": "default",
    "expand": "default",
    "hookimpl": "hookspecs",
    "invoke": "invoke",
    "is_async": "invoke",
    "map": "default",
    "nested": "nesting",
    "nested_async": "nesting",
    "outcomes_of": "consuming",
    "run": "default",
    "strategy": "default",
    "stream": "default",
    "stream_map": "default",
    "thread_context": "scope",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a program pays for what it uses, when it first does."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Face(ModuleType):
    """Keep public names from submodules of the same name, such as ``run``.

    An import binds a submodule in its package, where it would stand before ``__getattr__``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the name, like any module that a function refers to."""
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Face
