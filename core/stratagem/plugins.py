"""Plugins: found by entry point, loaded one by one, each failure kept to itself."""

import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs
import importlib_metadata
import pluggy

from stratagem import hookspecs
from stratagem.errors import AmbiguousStrategyError, PluginError, UnknownStrategyError

if TYPE_CHECKING:
    from stratagem.strategy import ExecutionStrategy

__all__ = ["PluginRow", "PluginState", "Plugins", "StrategyInfo"]

GROUP = "stratagem"
OWN_DISTRIBUTION = "stratagem"
_log = logging.getLogger("stratagem")


@attrs.frozen
class StrategyInfo:
    """Offer a strategy by name.

    Attributes:
        name: the word that chooses it.
        factory: makes it; its keyword parameters are the options, those annotated with
            ``ExecutionStrategy`` take specs. It may be given as the place to import it from when
            it is first asked for: ``"package.module:name"``.
        summary: one line for people.
        imports_code: the options that may name code to import, such as ``"package:function"``;
            True where the strategy as a whole does. A project's configuration file may not give
            them, since it may have come with a download.
    """

    name: str
    _factory: "Callable[..., ExecutionStrategy] | str"
    summary: str = ""
    imports_code: bool | frozenset[str] = False

    @property
    def factory(self) -> "Callable[..., ExecutionStrategy]":
        """Give what makes it, imported by now.

        Raises:
            PluginError: it cannot be imported from its place.
        """
        if not isinstance(self._factory, str):
            return self._factory
        module, _, name = self._factory.partition(":")
        try:
            found: Callable[..., ExecutionStrategy] = attrgetter(name)(import_module(module))
        except Exception as error:
            raise PluginError(
                f"the factory of strategy {self.name!r} cannot be imported from "
                f"{self._factory!r}: {type(error).__name__}: {error}"
            ) from error
        return found

    def can(self, capability: str) -> bool:
        """Tell whether all that it makes has a capability, such as ``can_kill``.

        One that cannot be imported can do nothing.
        """
        try:
            return getattr(self.factory, capability, False) is True
        except PluginError:
            return False


class PluginState(StrEnum):
    """Name what became of a plugin that is installed."""

    LOADED = "loaded"
    FAILED = "failed"
    BLOCKED = "blocked"
    SKIPPED = "skipped"


@attrs.frozen
class PluginRow:
    """Hold what is known of one plugin.

    Attributes:
        name: the name of its entry point.
        distribution: who ships it, ``""`` for one registered in code.
        version: of that distribution.
        state: what became of it.
        why: why it was not loaded, ``""`` for one that was.
        strategies: the names it gives.
    """

    name: str
    distribution: str
    version: str
    state: PluginState
    why: str = ""
    strategies: tuple[str, ...] = ()


@attrs.frozen
class Offer:
    """Hold one strategy with the plugin that gives it."""

    info: StrategyInfo
    plugin: str
    distribution: str

    @property
    def owner(self) -> str:
        """Name its distribution, or the plugin where that was registered in code."""
        return self.distribution or self.plugin


class Plugins:
    """Hold the plugins of one engine.

    Args:
        allow: load only the entry points of these names, beside what ships with stratagem;
            None for all, as the environment says.
        block: entry points that are not loaded.
        environ: where ``STRATAGEM_PLUGINS`` (names, comma-separated) and
            ``STRATAGEM_DISABLE_PLUGIN_AUTOLOAD`` (``1``: only what ships with stratagem) are read.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.rows: list[PluginRow] = []
        self._offers: dict[str, list[Offer]] = {}
        self._allow = _allowed(allow, environ)
        self._block = frozenset(block)
        found = [(entry, *_origin(entry)) for entry in importlib_metadata.entry_points(group=GROUP)]
        for entry, distribution, version in sorted(found, key=lambda each: (each[0].name, each[1])):
            row = PluginRow(entry.name, distribution, version, PluginState.LOADED)
            self.rows.append(self._load(entry, row))

    def _load(self, entry: importlib_metadata.EntryPoint, row: PluginRow) -> PluginRow:
        if entry.name in self._block:
            return attrs.evolve(row, state=PluginState.BLOCKED, why="blocked by name")
        if not self._wanted(row):
            return attrs.evolve(row, state=PluginState.SKIPPED, why="not among the allowed plugins")
        try:
            strategies = self._register(entry.load(), row)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a broken plugin harms nobody else
            why = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"plugin {row.name!r} of distribution {row.distribution} {row.version} "
                f"({entry.value}) was not loaded: {why}",
                RuntimeWarning,
                stacklevel=2,
            )
            return attrs.evolve(row, state=PluginState.FAILED, why=why)
        return attrs.evolve(row, strategies=strategies)

    def _wanted(self, row: PluginRow) -> bool:
        return (
            row.distribution == OWN_DISTRIBUTION or self._allow is None or row.name in self._allow
        )

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin object: a module, or an instance with hook implementations.

        Args:
            plugin: the object.
            name: its name, for messages; its ``__name__`` or the name of its type by default.

        Raises:
            PluginError: it does not fit the hooks.
        """
        given = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        unique = given
        for number in itertools.count(2):
            if not self.manager.has_plugin(unique):
                break
            unique = f"{given}-{number}"
        row = PluginRow(unique, "", "", PluginState.LOADED)
        self.rows.append(attrs.evolve(row, strategies=self._register(plugin, row)))

    def _register(self, plugin: object, row: PluginRow) -> tuple[str, ...]:
        unique = f"{row.distribution}:{row.name}" if row.distribution else row.name
        if self.manager.is_registered(plugin):
            known = self.manager.get_name(plugin)
            raise PluginError(f"plugin {unique!r} is registered already, as {known!r}")
        try:
            self.manager.register(plugin, name=unique)
            self._refuse_misfits(plugin, unique)
            offers = [
                Offer(_strategy_info(info, row.name), row.name, row.distribution)
                for info in self._offered_by(plugin, row.name)
            ]
        except BaseException as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(str(error)) from error
            raise
        for offer in offers:
            self._offers.setdefault(offer.info.name, []).append(offer)
        return tuple(offer.info.name for offer in offers)

    def _refuse_misfits(self, plugin: object, unique: str) -> None:
        callers = self.manager.get_hookcallers(plugin) or []
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and caller.spec is None:
                    raise PluginError(
                        f"plugin {unique!r} implements {caller.name!r}, which is no hook; "
                        f"the hooks are: {', '.join(sorted(hook_names()))}"
                    )
                if implementation.plugin is plugin and (
                    implementation.wrapper or implementation.hookwrapper
                ):
                    raise PluginError(
                        f"plugin {unique!r} wraps {caller.name!r}, but listeners only observe: "
                        "leave `wrapper=True` out"
                    )

    def _offered_by(self, plugin: object, name: str) -> list[Any]:
        offered: list[Any] = []
        for implementation in self.manager.hook.stratagem_strategies.get_hookimpls():
            if implementation.plugin is plugin:
                given: Any = implementation.function()
                if given is not None and not isinstance(given, Iterable):
                    raise _not_strategies(name, given)
                offered.extend(given or ())
        return offered

    def offers(self) -> list[Offer]:
        """List every strategy that is offered, by name."""
        return [offer for _, offers in sorted(self._offers.items()) for offer in offers]

    def strategy_info(self, name: str, distribution: str | None = None) -> StrategyInfo:
        """Find the strategy of that name.

        Args:
            name: its name.
            distribution: whose, where several give it.

        Raises:
            UnknownStrategyError: nobody gives it.
            AmbiguousStrategyError: several distributions give it, and none was named.
        """
        offers = [
            offer
            for offer in self._offers.get(name, ())
            if distribution is None or _normal(offer.owner) == _normal(distribution)
        ]
        if not offers:
            asked = name if distribution is None else f"{distribution}:{name}"
            failed = [
                f"{row.name} ({row.distribution} {row.version}): {row.why}"
                for row in self.rows
                if row.state is PluginState.FAILED
            ]
            raise UnknownStrategyError(asked, self._offers, failed=failed)
        if len(offers) > 1:
            raise AmbiguousStrategyError(name, [offer.owner for offer in offers])
        return offers[0].info


def hook_names() -> list[str]:
    """List the names of the hooks."""
    return [name for name in vars(hookspecs) if name.startswith("stratagem_")]


def _allowed(allow: Iterable[str] | None, environ: Mapping[str, str]) -> frozenset[str] | None:
    if allow is not None:
        return frozenset(allow)
    named = environ.get("STRATAGEM_PLUGINS")
    if named is not None:
        return frozenset(part.strip() for part in named.split(",") if part.strip())
    if environ.get("STRATAGEM_DISABLE_PLUGIN_AUTOLOAD", "") not in {"", "0"}:
        return frozenset()
    return None


def _origin(entry: importlib_metadata.EntryPoint) -> tuple[str, str]:
    """Give the normal name of the distribution of a plugin, and its version."""
    if entry.dist is None:
        return "", ""
    # The head of the metadata says both; to parse all of it takes longer than to load a plugin.
    head = (entry.dist.read_text("METADATA") or "").partition("\n\n")[0]
    name = re.search("^Name: (.+)$", head, re.MULTILINE)
    version = re.search("^Version: (.+)$", head, re.MULTILINE)
    if name is None or version is None:
        return _normal(entry.dist.name), entry.dist.version
    return _normal(name[1].strip()), version[1].strip()


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _strategy_info(offered: Any, plugin: str) -> StrategyInfo:
    if isinstance(offered, StrategyInfo):
        return offered
    raise _not_strategies(plugin, offered)


def _not_strategies(plugin: str, offered: object) -> PluginError:
    return PluginError(
        f"plugin {plugin!r} offered {offered!r}; "
        "stratagem_strategies must return StrategyInfo records"
    )
