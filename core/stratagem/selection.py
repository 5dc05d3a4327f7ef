"""From a spec to a strategy object: the factory found, its options checked, its inner ones made."""

import inspect
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from stratagem.errors import PositionalOptionError, SpecError, StrategyOptionError
from stratagem.plugins import Plugins
from stratagem.specs import Spec, Word, not_a_spec, parse_spec, spec_from_table
from stratagem.strategy import ExecutionStrategy

__all__ = ["SpecLike", "build", "read_spec"]

_TABLE = re.compile(r"\b(?:Mapping|dict)\[.*Strategy")

SpecLike = str | Mapping[str, Any] | Spec


def read_spec(spec: SpecLike, plugins: Plugins | None = None) -> Spec:
    """Read a spec from text or a table; the plugins help to say what is wrong with it.

    Raises:
        SpecError: it cannot be read.
        TypeError: it is neither.
    """
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str):
        try:
            return parse_spec(spec)
        except PositionalOptionError as error:
            option = _first_option(error.strategy, plugins)
            raise PositionalOptionError(
                error.strategy, error.given, spec=spec, option=option
            ) from None
    if isinstance(spec, Mapping):
        return spec_from_table(spec)
    raise TypeError(
        "a strategy is given as text, as a table, or as an ExecutionStrategy object, "
        f"not as {type(spec).__name__!r}"
    )


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
    info = plugins.strategy_info(spec.name, spec.distribution)
    parameters = _parameters(info.factory)
    _refuse_unknown(spec, parameters)
    made: list[ExecutionStrategy] = []
    try:
        inner = [_keep(made, build(inner, plugins)) for inner in spec.inner]
        options = {
            key: _option(key, value, parameters.get(key), spec, plugins, made)
            for key, value in (_default_specs(spec, parameters) | dict(spec.options)).items()
        }
        strategy = _call(spec.name, info.factory, inner, options, parameters)
    except BaseException:
        for strategy in made:
            strategy.close()
        raise
    return strategy


def _keep(made: list[ExecutionStrategy], strategy: ExecutionStrategy) -> ExecutionStrategy:
    made.append(strategy)
    return strategy


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
    made: list[ExecutionStrategy],
) -> object:
    if isinstance(value, Word) and _takes_specs(parameter):
        return _keep(made, build(value.spec, plugins))
    if isinstance(value, Word):
        raise not_a_spec(key, value, spec.text)
    if isinstance(value, Mapping) and _takes_table(parameter):
        return {
            name: _keep(made, build(_entry(key, name, given, spec), plugins))
            for name, given in value.items()
        }
    if isinstance(value, Spec):
        return _keep(made, build(value, plugins))
    if isinstance(value, str) and _takes_specs(parameter):
        return _keep(made, build(parse_spec(value), plugins))
    return value


def _entry(key: str, name: object, given: object, spec: Spec) -> Spec:
    """Read one strategy of an option that takes several, each by a name."""
    if isinstance(name, str) and isinstance(given, str | Mapping | Spec):
        return read_spec(given)
    raise SpecError(
        f"{given!r} for {name!r} in {key!r} is no strategy",
        spec=spec.text,
        hint=f'write {key}={{"name": "threads(max_workers=2)"}}',
    )


def _call(
    name: str,
    factory: Callable[..., Any],
    inner: list[ExecutionStrategy],
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
