"""The hooks: what a plugin can offer, and what it can listen to.

Every hook runs in the process that owns the run, never in a worker.
A plugin writes ``hookimpl`` functions under these names and takes the arguments it wants.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stratagem.plugins import StrategyInfo
    from stratagem.report import Report
    from stratagem.run import Run
    from stratagem.task import Outcome, Task

__all__ = ["hookimpl", "hookspec"]

PROJECT = "stratagem"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def stratagem_strategies() -> "Iterable[StrategyInfo]":  # type: ignore[empty-body]
    """Offer strategies.

    Called once, when an engine loads its plugins.
    Return records of name, factory and summary; keep it light, and import what is heavy
    in the factory.
    A raise makes the whole plugin a failed one: a warning, and a row in ``stratagem plugins``::

        @hookimpl
        def stratagem_strategies():
            return [StrategyInfo("patient", PatientStrategy, "one task a minute")]
    """


@hookspec
def stratagem_listeners(run: "Run") -> "Iterable[object]":  # type: ignore[empty-body]
    """Offer listeners that live for one run, with the state they need.

    Called when a run is made, before ``stratagem_before_run``.
    Return objects with methods named like the hooks below, none when the run is of no interest:
    a hook that nobody listens to costs nothing.
    A raise offers nothing, is logged, and stands in the report::

        @hookimpl
        def stratagem_listeners(run):
            return [ProgressBar()] if run.progress else []
    """


@hookspec
def stratagem_before_run(run: "Run") -> None:
    """Hear that a run begins.

    Called before its first task is taken. The return value is ignored.
    A raise is logged once and stands in the report; the run goes on::

        @hookimpl
        def stratagem_before_run(run):
            print("started", run.id)
    """


@hookspec
def stratagem_after_run(run: "Run", report: "Report") -> None:
    """Hear that a run ended, for whatever reason.

    Called after the last task hook, with the report: its outcomes, counts and ``stopped``.
    The return value is ignored.
    A raise is logged, but can no longer stand in the report::

        @hookimpl
        def stratagem_after_run(run, report):
            print("ended", run.id, report.counts)
    """


@hookspec
def stratagem_before_task(run: "Run", task: "Task") -> None:
    """Hear that a task is about to start.

    Called once for each task, however many attempts it takes, in the thread that takes the task;
    the task begins after it returns. The return value is ignored.
    No two hooks of a run are called at once.
    A raise is logged once and stands in the report; the task runs all the same::

        @hookimpl
        def stratagem_before_task(run, task):
            print("starting", task.key)
    """


@hookspec
def stratagem_task_error(run: "Run", task: "Task", outcome: "Outcome") -> None:
    """Hear that a task failed: it ended with any status but ok.

    Called once for such a task, before ``stratagem_after_task``.
    The return value is ignored.
    A raise is logged once and stands in the report; the outcome is handed on all the same::

        @hookimpl
        def stratagem_task_error(run, task, outcome):
            print("failed", task.key, outcome.error)
    """


@hookspec
def stratagem_after_task(run: "Run", task: "Task", outcome: "Outcome") -> None:
    """Hear that a task ended, well or not.

    Called once for each task that was announced, before its outcome is handed on;
    also when the run is stopped. The return value is ignored.
    A raise is logged once and stands in the report; the outcome is handed on all the same::

        @hookimpl
        def stratagem_after_task(run, task, outcome):
            print("ended", task.key, outcome.status)
    """
