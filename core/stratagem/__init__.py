"""Run batches of agent tasks under an execution strategy chosen by one word.

The tree stands on itself without a circle, lowest first:

- ``errors``, ``hookspecs``, then ``task``, ``snapshot``, ``terminal``: the values, and rules on
  them.
- ``source``, ``intake``, ``async_intake``: where tasks come from; ``scope``, ``loops``,
  ``event_loops``, ``invoke``: what runs where a task runs; ``family``: the runs that it starts;
  ``report``; ``plugins``.
- ``outbox``, ``consuming``, ``slots``, ``threads``: what strategies are built of;
  ``strategy``, ``transport``.
- ``specs``, ``selection``, ``configuration``: from a word to a strategy.
- ``run``, ``signals``, ``watch``, ``plan``, ``numbering``, ``stream``, ``async_stream``,
  ``engine``: the pipeline.
- ``default``, ``nesting``, ``orchestrators``, ``cli``, ``testing``: what people call.

No module here imports a plugin: the strategies that ship with it live in ``stratagem_builtin``
and come in by entry point like any other.
"""

from typing import TYPE_CHECKING, Any

from stratagem.default import (
    amap,
    arun,
    astream,
    default_engine,
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
    CapabilityError,
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
from stratagem.hookspecs import hookimpl
from stratagem.invoke import invoke
from stratagem.nesting import nested, nested_async
from stratagem.orchestrators import (
    Answer,
    IdeaToQuestionsOrchestrator,
    UserQuestionOrchestrator,
)
from stratagem.plugins import StrategyInfo
from stratagem.report import HookFailure, Report
from stratagem.run import Run
from stratagem.scope import CurrentTask, current_task
from stratagem.snapshot import Running, RunningTask, Snapshot
from stratagem.source import Feed, TaskSource
from stratagem.strategy import ExecutionStrategy, StreamingStrategy
from stratagem.stream import Stream
from stratagem.task import Outcome, Status, Task, Wait
from stratagem.terminal import authentication_failed

if TYPE_CHECKING:
    from stratagem.async_stream import AsyncStream

__all__ = [
    "AbandonedThreadsError",
    "AmbiguousStrategyError",
    "Answer",
    "AsyncStream",
    "CapabilityError",
    "ConfigurationError",
    "CurrentTask",
    "DuplicateKeyError",
    "Engine",
    "ExecutionStrategy",
    "Feed",
    "HookFailure",
    "IdeaToQuestionsOrchestrator",
    "LateBindingWarning",
    "NestingError",
    "Outcome",
    "PluginError",
    "PositionalOptionError",
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
    "amap",
    "arun",
    "astream",
    "authentication_failed",
    "current_task",
    "default_engine",
    "hookimpl",
    "invoke",
    "map",
    "nested",
    "nested_async",
    "run",
    "strategy",
    "stream",
    "stream_map",
]


def __getattr__(name: str) -> Any:
    """Import what needs asyncio when it is asked for: that costs as much as all the rest."""
    if name == "AsyncStream":
        from stratagem.async_stream import AsyncStream  # noqa: PLC0415

        return AsyncStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
