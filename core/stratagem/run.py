"""One run of a batch, as listeners see it, and the road that tells them of it."""

import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import attrs
import pluggy

from stratagem.report import HookFailure
from stratagem.scope import CurrentTask
from stratagem.snapshot import Snapshot

__all__ = ["Announcer", "Run", "observed_strategies"]

SLOW_HOOK = 1.0
_log = logging.getLogger("stratagem")
_TASK_HOOKS = ("stratagem_before_task", "stratagem_task_error", "stratagem_after_task")
_RUN_HOOKS = ("stratagem_before_run", "stratagem_after_run")

observed_strategies: ContextVar[tuple[object, ...]] = ContextVar("stratagem_observed", default=())
"""The strategies whose hooks are being called here, and on which they may start no run."""


def _new_id() -> str:
    return os.urandom(6).hex()


@attrs.define(eq=False)
class Run:
    """Describe one run of a batch.

    Attributes:
        strategy: the spec of its strategy, or the name of its type.
        total: how many tasks it has; None while that is unknown.
        name: what its tasks call, where that is one function.
        log: the level that the caller asks the log for: a name, True for ``info``, None for quiet.
        progress: whether the caller asks for a progress display; None to go by the terminal.
        parent: the task that started it, if one did.
        id: its id, random.
        started_at: when it began, in seconds since the epoch.
    """

    strategy: str
    total: int | None = None
    name: str = ""
    log: str | bool | None = None
    progress: bool | None = None
    parent: CurrentTask | None = None
    id: str = attrs.field(factory=_new_id)
    started_at: float = attrs.field(factory=time.time)
    _look: Callable[[], Snapshot] | None = attrs.field(default=None, init=False, repr=False)

    def snapshot(self) -> Snapshot:
        """Say what the run is doing right now, or was when it ended; from any thread."""
        if self._look is None:
            return Snapshot(self.id, self.name, self.total)
        return self._look()


@attrs.frozen
class _Listener:
    plugin: str
    hook: str
    function: Callable[..., Any]
    wants: tuple[str, ...]


class Announcer:
    """Call the listeners of one run: one at a time, each caught alone.

    Attributes:
        before: whether anybody listens to ``stratagem_before_task``.
        error: whether anybody listens to ``stratagem_task_error``.
        after: whether anybody listens to ``stratagem_after_task``.
        teller: the ident of the thread that calls a listener right now; 0 for none.
    """

    def __init__(self, run: Run, manager: pluggy.PluginManager, strategy: object) -> None:
        self._run = run
        self._strategy = strategy
        self._turn = threading.RLock()
        self.teller = 0
        self._failures: dict[tuple[str, str], HookFailure] = {}
        self._slow: set[tuple[str, str]] = set()
        self._listeners: dict[str, list[_Listener]] = {
            hook: _implementations(manager, hook) for hook in (*_TASK_HOOKS, *_RUN_HOOKS)
        }
        self._add_offered(manager)
        self.before = bool(self._listeners["stratagem_before_task"])
        self.error = bool(self._listeners["stratagem_task_error"])
        self.after = bool(self._listeners["stratagem_after_task"])

    def _add_offered(self, manager: pluggy.PluginManager) -> None:
        for offer in _implementations(manager, "stratagem_listeners"):
            for listener in self._offered(offer):
                for hook, listeners in self._listeners.items():
                    function = getattr(listener, hook, None)
                    if function is not None:
                        listeners.append(_Listener(offer.plugin, hook, function, _wants(function)))

    def _offered(self, offer: _Listener) -> list[object]:
        try:
            offered: Iterable[object] | None = _call(offer, {"run": self._run})
            return list(offered or ())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a listener costs nothing but itself
            self._note_failure(offer, error)
            return []

    @property
    def failures(self) -> tuple[HookFailure, ...]:
        """List what listeners raised so far."""
        return tuple(self._failures.values())

    def tell(self, hook: str, **facts: object) -> None:
        """Call every listener of ``hook`` with those of the facts it wants."""
        listeners = self._listeners[hook]
        if not listeners:
            return
        facts["run"] = self._run
        token = observed_strategies.set((*observed_strategies.get(), self._strategy))
        try:
            with self._turn:
                teller, self.teller = self.teller, threading.get_ident()
                try:
                    for listener in listeners:
                        self._tell_one(listener, facts)
                finally:
                    self.teller = teller
        finally:
            observed_strategies.reset(token)

    def _tell_one(self, listener: _Listener, facts: dict[str, object]) -> None:
        began = time.perf_counter()
        try:
            _call(listener, facts)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a listener costs nothing but itself
            self._note_failure(listener, error)
        seconds = time.perf_counter() - began
        if seconds > SLOW_HOOK:
            self._note_slowness(listener, seconds)

    def _note_failure(self, listener: _Listener, error: BaseException) -> None:
        key = (listener.plugin, listener.hook)
        known = self._failures.get(key)
        if known is not None:
            self._failures[key] = attrs.evolve(known, count=known.count + 1)
            return
        self._failures[key] = HookFailure(listener.plugin, listener.hook, error, 1)
        _log.error(
            "hook_failed: plugin %r raised in %s; the run goes on",
            listener.plugin,
            listener.hook,
            exc_info=error,
        )

    def _note_slowness(self, listener: _Listener, seconds: float) -> None:
        key = (listener.plugin, listener.hook)
        if key not in self._slow:
            self._slow.add(key)
            _log.warning(
                "hook_slow: plugin %r took %.1f s in %s, and holds the run up that long",
                listener.plugin,
                seconds,
                listener.hook,
            )

    def tell_end_of_task(self, task: object, outcome: Any) -> None:
        """Tell that a task failed, if it did, and that it ended."""
        with self._turn:
            if not outcome.ok:
                self.tell("stratagem_task_error", task=task, outcome=outcome)
            self.tell("stratagem_after_task", task=task, outcome=outcome)


def _wants(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )


def _call(listener: _Listener, facts: dict[str, object]) -> Any:
    return listener.function(*[facts[name] for name in listener.wants])


def _implementations(manager: pluggy.PluginManager, hook: str) -> list[_Listener]:
    caller = getattr(manager.hook, hook)
    return [
        _Listener(
            implementation.plugin_name.rpartition(":")[2],
            hook,
            implementation.function,
            implementation.argnames,
        )
        for implementation in reversed(caller.get_hookimpls())
    ]
