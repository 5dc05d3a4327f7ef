"""The engine: one word chooses the strategy, everything else stays the same."""

import os
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from stratagem.configuration import read_configuration
from stratagem.errors import CapabilityError, NestingError, SpecError
from stratagem.expansion import Growth
from stratagem.intake import outside_of_inputs
from stratagem.invoke import callable_name
from stratagem.loops import running_loop, running_on
from stratagem.options import require_level
from stratagem.plan import Plan
from stratagem.plugins import Plugins
from stratagem.report import Report
from stratagem.run import Announcer, Run, observed_strategies
from stratagem.scope import current_task
from stratagem.selection import SpecLike, build, read_spec, refuse_imports, wrap
from stratagem.signals import interruptible
from stratagem.specs import Spec
from stratagem.strategy import ExecutionStrategy, inner_strategies, warn_of_late_binding
from stratagem.stream import KEEP, Stream
from stratagem.tags import GivenTags
from stratagem.terminal import StopOn
from stratagem.watch import STALL_AFTER, Watch

if TYPE_CHECKING:
    from stratagem.async_stream import AsyncStream

__all__ = ["Engine", "Options"]

JOURNAL = "journal"
"""The name of the strategy that the options ``journal`` and ``resume`` are for."""

Callables = Iterable[Callable[[], Any]] | AsyncIterable[Callable[[], Any]]
Items = Iterable[Any] | AsyncIterable[Any]


class Options(TypedDict, total=False):
    """Be the options of a run, the same for all forms.

    Attributes:
        strategy: a spec, or a strategy object; by default what the engine was made with,
            else what is configured, else ``threads``.
        on_error: ``"collect"`` failures (the default), or ``"raise"`` the first in time.
        max_errors: stop the run when so many tasks have failed.
        stop_on: stop the run at the first error that is of this type, or of one of several,
            or for which a function tells so; ``authentication_failed`` is one.
            A task that raises ``StopRun`` stops it in any case.
        stall_after: seconds in which no task succeeds after which a warning, ``run_stalled``,
            says what is waited for; 60 by default, None for never.
        timeout: seconds that one attempt of a task may run, from when it begins.
        key: gives the key of an item, for ``map``, or of a callable; by default its index.
        tags: words for every task, or a function that gives those of an item, for ``map``,
            or of a callable; strategies and listeners may go by them.
        log: the level of the lifecycle log: True for ``"info"``, ``"debug"``; quiet by default.
        keep: how many outcomes the report of a stream holds beside those not handed out;
            10,000 by default, None for all. Other reports hold all.
        progress: show progress on stderr: True, False, or None to go by the terminal.
        journal: the file in which every outcome is kept, before anybody hears of it;
            what it holds of an earlier run comes back, and does not run.
        resume: True to insist that the journal is there, False that it holds no run;
            None, the default, to do what is open.
    """

    strategy: "SpecLike | ExecutionStrategy | None"
    on_error: Literal["collect", "raise"]
    max_errors: int | None
    stop_on: StopOn | None
    stall_after: float | None
    timeout: float | None
    key: Callable[[Any], object] | None
    tags: GivenTags
    log: str | bool | None
    progress: bool | None
    keep: int | None
    journal: "str | os.PathLike[str] | None"
    resume: bool | None


class Engine:
    """Run batches of tasks under strategies chosen by name.

    It keeps the strategies that it makes from specs, with their warm workers and loops,
    until it is closed.

    Args:
        strategy: what runs a batch whose call names no strategy.
        plugins: names of entry points, to load no others beside what ships with stratagem;
            plugin objects among them are registered as they are.
        block: names of entry points that are not loaded.

    Raises:
        PluginError: a plugin object does not fit the hooks.
    """

    def __init__(
        self,
        strategy: "SpecLike | ExecutionStrategy | None" = None,
        *,
        plugins: Iterable[object] | None = None,
        block: Iterable[str] = (),
    ) -> None:
        given = [] if plugins is None else list(plugins)
        names = [plugin for plugin in given if isinstance(plugin, str)]
        objects = [plugin for plugin in given if not isinstance(plugin, str)]
        only = names if names or (plugins is not None and not objects) else None
        self.plugins = Plugins(allow=only, block=block)
        for plugin in objects:
            self.plugins.register(plugin)
        self._default = strategy
        self._lock = threading.Lock()
        self._made: dict[str, ExecutionStrategy] = {}
        self._watch = Watch()

    def run(self, callables: Callables, **options: Unpack[Options]) -> Report:
        """Run callables of no arguments and report on all.

        Args:
            callables: a sequence, an iterable that may be endless or block, or an async iterable.
            options: see ``Options``.

        Raises:
            SpecError, ConfigurationError: no strategy can be made of what is asked for.
            CapabilityError: the strategy cannot do what is asked for.
            DuplicateKeyError: ``key`` gives one key twice.
            RunInterrupted: a signal stopped the run.
            BaseException: what the input raised, or with ``on_error="raise"`` the first failure.
                Whatever is raised once the run has begun carries the partial report as ``report``.
        """
        warn_of_late_binding(callables, stacklevel=2)
        return _collect(self._open(None, callables, None, options))

    def map(
        self, function: Callable[[Any], Any], items: Items, **options: Unpack[Options]
    ) -> Report:
        """Call ``function`` with each item and report on all; otherwise as ``run``."""
        _require_function(function)
        return _collect(self._open(function, items, None, options))

    def stream(self, callables: Callables, **options: Unpack[Options]) -> Stream:
        """Run callables and give their outcomes as they end; otherwise as ``run``."""
        warn_of_late_binding(callables, stacklevel=2)
        return self._open(None, callables, options.get("keep", KEEP), options)

    def stream_map(
        self, function: Callable[[Any], Any], items: Items, **options: Unpack[Options]
    ) -> Stream:
        """Call ``function`` with each item and give outcomes as they end; otherwise as ``run``."""
        _require_function(function)
        return self._open(function, items, options.get("keep", KEEP), options)

    def expand(
        self,
        step: Callable[[Any], Any],
        items: Items,
        *,
        max_depth: int | None = None,
        max_tasks: int | None = None,
        duplicates: Literal["skip", "raise"] = "skip",
        **options: Unpack[Options],
    ) -> Stream:
        """Call ``step`` with each item, and with each item that those lead to.

        A step that leads to further items returns ``Expansion(value, items)``:
        the value is that of its outcome, and each item becomes a task of its own, one level deeper.
        Whatever else it returns is a value. Otherwise as ``run``; the outcomes come as they end.

        Without a bound it goes on as long as steps lead to further items.
        What a bound leaves out is counted in ``report.unfollowed``, and where it is ``max_tasks``
        that ended the run, that is why the report says it stopped.
        A task and its outcome name the task that led to them in ``parent``.

        Args:
            step: called with one item; what fails, or is lost, leads to nothing.
            items: what to begin with, at depth 0.
            max_depth: how deep to go; items of a task at that depth are not run.
            max_tasks: how many tasks to run at the most.
            duplicates: what an item means whose ``key`` was given before: ``"skip"`` it,
                as one that was visited, or ``"raise"`` a DuplicateKeyError.
                Without ``key`` each item is its own: the key is the path to it, such as ``0/2/1``.
            options: see ``Options``.
        """
        growth = Growth(options.get("key"), max_depth, max_tasks, duplicates)
        _require_function(step, "expand")
        return self._open(step, items, options.get("keep", KEEP), options, growth=growth)

    def aexpand(
        self,
        step: Callable[[Any], Any],
        items: Items,
        *,
        max_depth: int | None = None,
        max_tasks: int | None = None,
        duplicates: Literal["skip", "raise"] = "skip",
        **options: Unpack[Options],
    ) -> "AsyncStream":
        """Expand while the loop goes on, async steps on it; otherwise as ``expand``.

        Call it where a loop runs.
        """
        from stratagem.async_stream import AsyncStream  # noqa: PLC0415 - asyncio is slow to import

        loop = running_loop()
        with running_on(loop):
            stream = self.expand(
                step,
                items,
                max_depth=max_depth,
                max_tasks=max_tasks,
                duplicates=duplicates,
                **options,
            )
        return AsyncStream(stream, loop)

    async def arun(self, callables: Callables, **options: Unpack[Options]) -> Report:
        """Run callables while the loop goes on, async ones on it; otherwise as ``run``."""
        warn_of_late_binding(callables, stacklevel=2)
        return await self._collect_async(None, callables, options)

    async def amap(
        self, function: Callable[[Any], Any], items: Items, **options: Unpack[Options]
    ) -> Report:
        """Call ``function`` with each item while the loop goes on; otherwise as ``run``."""
        _require_function(function)
        return await self._collect_async(function, items, options)

    def astream(self, callables: Callables, **options: Unpack[Options]) -> "AsyncStream":
        """Give outcomes as they end, while the loop goes on; async callables run on it.

        Call it where a loop runs; otherwise as ``run``.
        """
        warn_of_late_binding(callables, stacklevel=2)
        from stratagem.async_stream import AsyncStream  # noqa: PLC0415 - asyncio is slow to import

        loop = running_loop()
        with running_on(loop):
            return AsyncStream(
                self._open(None, callables, options.get("keep", KEEP), options), loop
            )

    async def _collect_async(
        self, function: Callable[[Any], Any] | None, items: Items, options: Options
    ) -> Report:
        from stratagem.async_stream import AsyncStream  # noqa: PLC0415 - asyncio is slow to import

        loop = running_loop()
        with running_on(loop):
            stream = self._open(function, items, None, options)
        with outside_of_inputs():  # who asked for a whole report would take a part for it
            return await AsyncStream(stream, loop).collect()

    def strategy(self, spec: "SpecLike | None" = None) -> ExecutionStrategy:
        """Make a strategy of a spec, to be closed by the caller.

        Args:
            spec: text or a table; what is configured by default.

        Raises:
            SpecError, ConfigurationError: it cannot be made.
        """
        return build(self._read(spec)[0], self.plugins)

    def _read(self, given: "SpecLike | None") -> tuple[Spec, str]:
        """Read a spec, or what is configured where none is given; tell where it comes from."""
        if given is not None:
            return read_spec(given, self.plugins), "argument"
        configured = read_configuration()
        try:
            spec = read_spec(configured.strategy, self.plugins)
            if configured.is_of_project:
                refuse_imports(spec, self.plugins, configured.origin)
        except SpecError as error:
            error.add_note(f"it comes from: {configured.origin}")
            raise
        return spec, configured.origin

    def close(self) -> None:
        """Close every strategy that this engine made; it makes new ones when used again."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for strategy in made:
            strategy.close()
        self._watch.close()

    def __enter__(self) -> Self:
        """Give the engine itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the engine."""
        self.close()

    def _open(
        self,
        function: Callable[[Any], Any] | None,
        items: Items,
        keep: int | None,
        options: Options,
        *,
        growth: Growth | None = None,
        is_nested: bool = False,
    ) -> Stream:
        _refuse_unknown(options)
        parent = current_task()
        plan = Plan(
            items,
            function,
            options.get("on_error", "collect"),
            options.get("max_errors"),
            options.get("timeout"),
            options.get("key") if growth is None else None,
            keep,
            growth,
            options.get("tags"),
            parent.key if is_nested and parent is not None else None,
            stop_on=options.get("stop_on"),
            stall_after=options.get("stall_after", STALL_AFTER),
        )
        strategy, label = self._with_journal(options)
        _refuse_inside_own_listener(strategy, label)
        if plan.timeout is not None and not strategy.enforces_timeouts:
            raise CapabilityError(
                f"strategy {label!r} cannot stop a task{_who_cannot_stop(strategy)}, "
                "so it takes no timeout; "
                f"{self._those_that_can('enforces_timeouts')}"
            )
        run = Run(
            label,
            plan.total,
            "" if function is None else callable_name(function),
            require_level("log", options.get("log")),
            options.get("progress"),
            parent,
        )
        announcer = Announcer(run, self.plugins.manager, strategy)

        def open_children(callables: Sequence[Callable[[], Any]]) -> Stream:
            nested: Options = {"strategy": strategy, "on_error": "raise", "progress": False}
            if "log" in options:
                nested["log"] = options["log"]
            return self._open(None, callables, None, nested, is_nested=True)

        watch = self._watch if run.parent is None else None
        return Stream(plan, strategy, run, announcer, open_children, watch)

    def _with_journal(self, options: Options) -> tuple[ExecutionStrategy, str]:
        strategy, label = self._strategy_for(options.get("strategy"))
        path, resume = options.get("journal"), options.get("resume")
        if path is None:
            if resume is not None:
                raise ValueError("resume needs a journal to go on with: give `journal=` its file")
            return strategy, label
        given = {"path": os.fspath(path), "resume": resume}
        return wrap(JOURNAL, strategy, given, self.plugins), f"{JOURNAL}({label})"

    def _strategy_for(
        self, given: "SpecLike | ExecutionStrategy | None"
    ) -> tuple[ExecutionStrategy, str]:
        wanted = self._default if given is None else given
        if isinstance(wanted, ExecutionStrategy):
            return wanted, type(wanted).__name__
        spec, origin = self._read(wanted)
        with self._lock:
            strategy = self._made.get(repr(spec))
            if strategy is None:
                try:
                    strategy = build(spec, self.plugins)
                except SpecError as error:
                    if given is None and self._default is None:
                        error.add_note(f"it comes from: {origin}")
                    raise
                self._made[repr(spec)] = strategy
        return strategy, spec.text

    def _those_that_can(self, capability: str) -> str:
        names = [offer.info.name for offer in self.plugins.offers() if offer.info.can(capability)]
        return f"use one that can: {', '.join(sorted(names))}" if names else "none installed can"


def _collect(stream: Stream) -> Report:
    guard = interruptible(stream) if stream.run.parent is None else nullcontext()
    with guard, outside_of_inputs():  # who asked for a whole report would take a part for it
        return stream.collect()


def _require_function(function: object, caller: str = "map") -> None:
    if not callable(function):
        raise TypeError(f"{caller} needs a function to call, not {function!r}")


def _refuse_unknown(options: Options) -> None:
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"unknown option {min(unknown)!r}; "
            f"the options are: {', '.join(Options.__annotations__)}"
        )


def _refuse_inside_own_listener(strategy: ExecutionStrategy, label: str) -> None:
    observed = observed_strategies.get()
    if any(
        one is other
        for one in _with_inner(strategy)
        for outer in observed
        for other in _with_inner(outer)
    ):
        raise NestingError(
            f"a listener cannot start a run on the strategy that it observes ({label}): "
            "give the run a strategy of its own, or start it after the observed run has ended"
        )


def _with_inner(strategy: object) -> Iterator[object]:
    yield strategy
    if isinstance(strategy, ExecutionStrategy):
        for inner in inner_strategies(strategy).values():
            yield from _with_inner(inner)


def _who_cannot_stop(strategy: ExecutionStrategy) -> str:
    """Say which of the strategies that ``strategy`` stands over keeps no timeout, by its name."""
    for name, inner in inner_strategies(strategy).items():
        if not inner.enforces_timeouts:
            own = f" in {name!r} ({type(inner).__name__})" if name else ""
            return own + _who_cannot_stop(inner)
    return ""
