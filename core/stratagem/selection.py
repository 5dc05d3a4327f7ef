"""From a spec to a strategy object: the factory found, its options checked, its inner ones made."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_origin

import attrs

from stratagem.errors import (
    ConfigurationError,
    PositionalOptionError,
    SpecError,
    StrategyOptionError,
)
from stratagem.plugins import Plugins, StrategyInfo
from stratagem.specs import Spec, Word, not_a_spec, parse_spec, spec_from_table
from stratagem.strategy import ExecutionStrategy

__all__ = ["SpecLike", "build", "read_spec", "refuse_imports", "wrap"]

_TABLE = re.compile(r"\b(?:Mapping|dict)\[.*Strategy")

SpecLike = str | Mapping[str, Any] | Spec


def read_spec(spec: SpecLike, plugins: Plugins | None = None) -> Spec:
    """Read a spec from text or a table; the plugins tell what their strategies take.

    Raises:
        SpecError: it cannot be read.
        TypeError: it is neither.
    """
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str):
        try:
            return parse_spec(spec, partial(_text_option, plugins))
        except PositionalOptionError as error:
            option = _first_option(error.strategy, plugins)
            raise PositionalOptionError(
                error.strategy, error.given, spec=spec, option=option
            ) from None
    if isinstance(spec, Mapping):
        return spec_from_table(spec, partial(_text_option, plugins))
    raise TypeError(
        "a strategy is given as text, as a table, or as an ExecutionStrategy object, "
        f"not as {type(spec).__name__!r}"
    )


def _text_option(plugins: Plugins | None, name: str, distribution: str | None) -> str | None:
    """Name the option of a strategy that a text given first is for: a text that it must have."""
    if plugins is None:
        return None
    try:
        parameters = _parameters(plugins.strategy_info(name, distribution).factory)
    except SpecError:
        return None
    first = next(iter(parameters.values()), None)
    if first is None or first.default is not inspect.Parameter.empty:
        return None
    return first.name if first.annotation in {str, "str"} else None


def _first_option(name: str, plugins: Plugins | None) -> str:
    if plugins is None:
        return "option"
    try:
        parameters = _parameters(plugins.strategy_info(name).factory)
    except SpecError:
        return "option"
    options = [
        option
        for option, value in parameters.items()
        if not (_takes_specs(value) or _takes_table(value))
    ]
    return options[0] if options else "option"


def build(spec: Spec, plugins: Plugins) -> ExecutionStrategy:
    """Make the strategy that ``spec`` asks for, inner ones first.

    An option that takes a strategy and has a spec for its default gets what that asks for.

    Raises:
        UnknownStrategyError, AmbiguousStrategyError: its name is not that of one strategy.
        StrategyOptionError: an option is unknown, missing, or refused.
    """
    return _resolve(spec, plugins).make()


def wrap(
    name: str, inner: ExecutionStrategy, options: Mapping[str, object], plugins: Plugins
) -> ExecutionStrategy:
    """Make the strategy of that name around one that is there already.

    Raises:
        UnknownStrategyError, AmbiguousStrategyError: its name is not that of one strategy.
        StrategyOptionError: an option is refused.
    """
    factory = plugins.strategy_info(name).factory
    return _call(name, factory, [inner], options, _parameters(factory))


def refuse_imports(spec: Spec, plugins: Plugins, file: str) -> None:
    """See to it that a spec from a project's file names no code to import, however deep inside.

    Raises:
        ConfigurationError: it does.
        SpecError: it can't be built anyway.
    """
    for recipe in _resolve(spec, plugins).as_given():
        imports = recipe.info.imports_code
        if imports is True:
            what = f"strategy {recipe.info.name!r}"
        elif given := sorted(recipe.spec.options.keys() & (imports or frozenset())):
            what = f"option {given[0]!r} of strategy {recipe.info.name!r}"
        else:
            continue
        raise ConfigurationError(
            f"{file}: {what} imports code by its name, and what a project's file says may have "
            f"come with a download; give {spec.text} as the argument `strategy=`, by `--strategy` "
            "on the command line, or in STRATAGEM_STRATEGY"
        )


@attrs.frozen
class _Recipe:
    """Hold what one strategy is made of, before anything is made.

    Attributes:
        spec: what was asked for.
        info: what offers it.
        parameters: those of its factory.
        inner: the strategies given by position.
        options: the options, with a recipe, or a mapping to recipes, where one takes strategies.
    """

    spec: Spec
    info: StrategyInfo
    parameters: Mapping[str, inspect.Parameter]
    inner: list["_Recipe"]
    options: dict[str, object]

    def as_given(self) -> Iterator["_Recipe"]:
        """Give this one and all inside it, but for those that are defaults of a plugin."""
        yield self
        given = (value for key, value in self.options.items() if key in self.spec.options)
        for recipe in (*self.inner, *(recipe for value in given for recipe in _recipes(value))):
            yield from recipe.as_given()

    def make(self) -> ExecutionStrategy:
        """Make the strategy, inner ones first; those are closed again when it can't be made."""
        made: list[ExecutionStrategy] = []

        def keep(value: object) -> object:
            if isinstance(value, _Recipe):
                made.append(value.make())
                return made[-1]
            if _recipes(value):
                assert isinstance(value, Mapping)
                return {name: keep(recipe) for name, recipe in value.items()}
            return value

        try:
            inner = [keep(recipe) for recipe in self.inner]
            options = {key: keep(value) for key, value in self.options.items()}
            return _call(self.spec.name, self.info.factory, inner, options, self.parameters)
        except BaseException:
            for strategy in made:
                strategy.close()
            raise


def _recipes(value: object) -> list[_Recipe]:
    """Give the recipes that the value of an option is, or has in it."""
    if isinstance(value, _Recipe):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else ()
    return [part for part in parts if isinstance(part, _Recipe)]


def _resolve(spec: Spec, plugins: Plugins) -> _Recipe:
    info = plugins.strategy_info(spec.name, spec.distribution)
    parameters = _parameters(info.factory)
    _refuse_unknown(spec, parameters)
    inner = [_resolve(given, plugins) for given in spec.inner]
    options = {
        key: _option(key, value, parameters.get(key), spec, plugins)
        for key, value in (_default_specs(spec, parameters) | dict(spec.options)).items()
    }
    return _Recipe(spec, info, parameters, inner, options)


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(factory).parameters)


def _default_specs(spec: Spec, parameters: Mapping[str, inspect.Parameter]) -> dict[str, object]:
    return {
        name: parameter.default
        for position, (name, parameter) in enumerate(parameters.items())
        if position >= len(spec.inner)
        and isinstance(parameter.default, str)
        and _takes_specs(parameter)
    }


def _takes_specs(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and _names_strategy(parameter.annotation)


def _takes_table(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and _names_strategies(parameter.annotation)


def _names_strategy(annotation: object) -> bool:
    if isinstance(annotation, str):
        return "Strategy" in annotation and not _names_strategies(annotation)
    if _is_union(annotation):
        return any(_names_strategy(part) for part in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, ExecutionStrategy)


def _names_strategies(annotation: object) -> bool:
    """Tell whether an annotation is that of a mapping from names to strategies."""
    if isinstance(annotation, str):
        return _TABLE.search(annotation) is not None
    if _is_union(annotation):
        return any(_names_strategies(part) for part in get_args(annotation))
    origin = get_origin(annotation)
    return (
        isinstance(origin, type)
        and issubclass(origin, Mapping)
        and _names_strategy(get_args(annotation)[1])
    )


def _is_union(annotation: object) -> bool:
    return isinstance(annotation, UnionType) or get_origin(annotation) is Union


def _refuse_unknown(spec: Spec, parameters: Mapping[str, inspect.Parameter]) -> None:
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key in spec.options:
        if key not in parameters and not takes_any:
            raise StrategyOptionError(spec.name, f"unknown option {key!r}", options=parameters)
    room = [name for name, parameter in parameters.items() if _takes_specs(parameter)]
    unbounded = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values())
    if len(spec.inner) > len(room) and not unbounded:
        given = ", ".join(inner.text for inner in spec.inner)
        takes = f"{len(room)} by position" if room else "none by position"
        raise StrategyOptionError(
            spec.name,
            f"was given {len(spec.inner)} strategies ({given}) and takes {takes}",
            options=parameters,
        )


def _option(
    key: str,
    value: object,
    parameter: inspect.Parameter | None,
    spec: Spec,
    plugins: Plugins,
) -> object:
    if isinstance(value, Word) and _takes_specs(parameter):
        return _resolve(value.spec, plugins)
    if isinstance(value, Word):
        raise not_a_spec(key, value, spec.text)
    if isinstance(value, Mapping) and _takes_table(parameter):
        return {
            name: _resolve(_entry(key, name, given, spec, plugins), plugins)
            for name, given in value.items()
        }
    if isinstance(value, Spec):
        return _resolve(value, plugins)
    if isinstance(value, str) and _takes_specs(parameter):
        return _resolve(read_spec(value, plugins), plugins)
    return value


def _entry(key: str, name: object, given: object, spec: Spec, plugins: Plugins) -> Spec:
    """Read one strategy of an option that takes several, each by a name."""
    if isinstance(name, str) and isinstance(given, str | Mapping | Spec):
        return read_spec(given, plugins)
    raise SpecError(
        f"{given!r} for {name!r} in {key!r} is no strategy",
        spec=spec.text,
        hint=f'write {key}={{"name": "threads(max_workers=2)"}}',
    )


def _call(
    name: str,
    factory: Callable[..., Any],
    inner: list[object],
    options: Mapping[str, object],
    parameters: Mapping[str, inspect.Parameter],
) -> ExecutionStrategy:
    try:
        inspect.signature(factory).bind(*inner, **options)
    except TypeError as error:
        raise StrategyOptionError(name, str(error), options=parameters) from error
    try:
        strategy = factory(*inner, **options)
    except SpecError:
        raise
    except (TypeError, ValueError) as error:
        raise StrategyOptionError(name, str(error), options=parameters) from error
    if not isinstance(strategy, ExecutionStrategy):
        raise SpecError(f"the factory of {name!r} gave {strategy!r}, which is no ExecutionStrategy")
    return strategy
