"""From a spec to a strategy: inner ones made, options checked by the factory that has them."""

import threading
from collections.abc import Mapping

import attrs
import pytest

from stratagem import (
    ExecutionStrategy,
    PositionalOptionError,
    SpecError,
    StrategyInfo,
    StrategyOptionError,
    UnknownStrategyError,
    hookimpl,
)
from stratagem.plugins import Plugins
from stratagem.selection import build, read_spec
from stratagem.specs import parse_spec


@attrs.define(eq=False)
class Inert(ExecutionStrategy):
    """Run nothing; remember what it was made with and whether it was closed."""

    n: object = None
    path: str = ""
    closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self):
        if self.n == 0:
            raise ValueError("n must be at least 1, not 0")
        made.append(self)

    def run_tasks(self, callables):
        return []

    def close(self):
        self.closed = True


@attrs.define(eq=False)
class Wrapper(Inert):
    """Hold another strategy, and maybe a second."""

    inner: ExecutionStrategy = attrs.field(kw_only=False, default=None)
    spare: ExecutionStrategy | None = None


def wrapper(
    inner: ExecutionStrategy, spare: ExecutionStrategy | None = None, n: int = 1
) -> Wrapper:
    return Wrapper(n, inner=inner, spare=spare)


made = []


def offering(*infos):
    class Offering:
        @hookimpl
        def stratagem_strategies(self):
            return infos

    plugins = Plugins(allow=[])
    plugins.register(Offering())
    return plugins


@pytest.fixture
def plugins():
    made.clear()
    return offering(StrategyInfo("inert", Inert), StrategyInfo("wrapper", wrapper))


def test_inner_strategies_are_made_of_positions_options_tables_and_text(plugins):
    """Where the factory asks for a strategy, also for one or None, every way to give it works."""
    specs = [
        "wrapper(inert, spare=inert(n=2))",
        {"use": "wrapper", "inner": {"use": "inert"}, "spare": {"use": "inert", "n": 2}},
        {"use": "wrapper", "inner": "inert", "spare": "inert(n=2)"},
    ]

    built = [build(read_spec(spec), plugins) for spec in specs]

    assert [(type(s.inner), type(s.spare), s.spare.n) for s in built] == [(Inert, Inert, 2)] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inert(m=1)", "strategy 'inert': unknown option 'm'; its options are: n, path"),
        (
            "wrapper()",
            "strategy 'wrapper': missing a required argument: 'inner'; "
            "its options are: inner, spare, n",
        ),
        ("inert(n=0)", "strategy 'inert': n must be at least 1, not 0; its options are: n, path"),
        (
            "inert(inert, inert)",
            "strategy 'inert': was given 2 strategies (inert, inert) and takes "
            "none by position; its options are: n, path",
        ),
        (
            "inert(path=run)",
            "'run' is not a literal value for 'path' in strategy spec "
            "'inert(path=run)'; write path=\"run\"",
        ),
        (
            "inert(n=TimeoutError)",
            "'TimeoutError' is not a literal value for 'n' in strategy spec "
            "'inert(n=TimeoutError)'; write n=\"TimeoutError\"",
        ),
    ],
)
def test_an_option_that_does_not_fit_is_refused_by_the_name_of_its_strategy(plugins, text, message):
    """Unknown, missing and refused options say whose they are, and which there are."""
    with pytest.raises(SpecError) as caught:
        build(parse_spec(text), plugins)

    assert str(caught.value) == message


def test_an_unknown_name_lists_the_known_ones_nearest_first(plugins):
    """A misspelt name gets the whole list, with what it may have meant in front."""
    with pytest.raises(UnknownStrategyError) as caught:
        build(parse_spec("wraper(inert)"), plugins)

    assert caught.value.known[0] == "wrapper"
    assert caught.value.known[1:] == sorted(caught.value.known[1:])
    assert (
        str(caught.value)
        == f"unknown strategy 'wraper'; known are: {', '.join(caught.value.known)}"
    )


class Placed(Inert):
    def __init__(self, place: str, n: int = 1):
        super().__init__(n, place)


@pytest.mark.parametrize(
    "spec",
    [
        "placed('north')",
        "placed('north', n=1)",
        'placed("nor" "th")',
        "wrapper(placed('north'))",
        "wrapper(inner=placed('north'))",
        """wrapper(inner="placed('north')")""",
        {"use": "wrapper", "inner": {"use": "placed('north')"}},
        {"use": "placed", "place": "north"},
    ],
)
def test_a_text_that_a_strategy_must_have_may_stand_first(plugins, spec):
    """Its first parameter takes it, where that is a ``str`` without a default."""
    offers = [StrategyInfo("wrapper", wrapper), StrategyInfo("placed", Placed)]
    offered = offering(*offers)

    strategy = build(read_spec(spec, offered), offered)

    assert getattr(strategy, "inner", strategy).path == "north"


@pytest.mark.parametrize(
    "text", ["placed('a', 'b')", "placed(n=1, 'a')", "placed(8)", "inert('a')"]
)
def test_another_text_needs_the_name_of_its_option(text):
    """Only the first one goes without, and only where there must be one."""
    offered = offering(StrategyInfo("inert", Inert), StrategyInfo("placed", Placed))

    with pytest.raises(PositionalOptionError):
        read_spec(text, offered)


def test_what_was_made_is_closed_when_the_rest_cannot_be(plugins):
    """An inner strategy that was made already does not outlive the failure of the outer one."""
    with pytest.raises(StrategyOptionError):
        build(parse_spec("wrapper(inert(n=7), n='x', spare=inert(n=0))"), plugins)

    assert [(strategy.n, strategy.closed) for strategy in made] == [(7, True)]


def test_a_factory_that_makes_something_else_is_refused():
    """What a factory gives must be a strategy."""
    plugins = offering(StrategyInfo("odd", threading.Event))

    with pytest.raises(SpecError, match=r"factory of 'odd' gave .*, which is no ExecutionS"):
        build(parse_spec("odd"), plugins)


@attrs.define(eq=False)
class Several(Wrapper):
    """Hold strategies by name too."""

    inners: Mapping[str, ExecutionStrategy] = attrs.field(factory=dict)


def several(
    first: ExecutionStrategy | str = "inert(n=1)",
    *,
    second: "ExecutionStrategy | str | None" = "inert(n=2)",
    more: Mapping[str, ExecutionStrategy | str] | None = None,
    quoted: "dict[str, ExecutionStrategy] | None" = None,
    label: str = "inert",
    n: int = 1,
) -> "Several":
    return Several(n, label, inner=first, spare=second, inners=dict(more or quoted or {}))


@pytest.fixture
def several_plugins():
    made.clear()
    return offering(StrategyInfo("inert", Inert), StrategyInfo("several", several))


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [
        ("several", (1, 2)),
        ("several(inert(n=7))", (7, 2)),
        ("several(first=inert(n=7), second=inert(n=8))", (7, 8)),
        ({"use": "several", "second": {"use": "inert", "n": 8}}, (1, 8)),
    ],
)
def test_a_default_that_is_a_spec_is_made_unless_another_is_given(several_plugins, spec, numbers):
    """Where an option takes a strategy; a text that is none stays as it is."""
    strategy = build(read_spec(spec), several_plugins)

    assert (strategy.inner.n, strategy.spare.n) == numbers
    assert strategy.path == "inert"


def test_none_stands_for_no_strategy(several_plugins):
    """Where the option allows it, the default is not made then."""
    strategy = build(read_spec("several(second=None)"), several_plugins)

    assert strategy.spare is None
    assert [inert.n for inert in made if type(inert) is Inert] == [1]


@pytest.mark.parametrize("option", ["more", "quoted"])
@pytest.mark.parametrize(
    "spec",
    [
        "several({option}={{'a': 'inert(n=3)', 'b': 'inert'}})",
        {"use": "several", "{option}": {"a": {"use": "inert", "n": 3}, "b": "inert"}},
    ],
)
def test_an_option_may_take_strategies_by_name(several_plugins, spec, option):
    """A table of specs, where the factory asks for a mapping to strategies."""
    if isinstance(spec, str):
        spec = spec.format(option=option)
    else:
        spec = {key.format(option=option): value for key, value in spec.items()}
    strategy = build(read_spec(spec), several_plugins)

    assert {name: inner.n for name, inner in strategy.inners.items()} == {"a": 3, "b": None}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "several(more={'a': 3})",
            "3 for 'a' in 'more' is no strategy in strategy spec \"several(more={'a': 3})\"; "
            'write more={"name": "threads(max_workers=2)"}',
        ),
        ("several(more={1: 'inert'})", "'inert' for 1 in 'more' is no strategy"),
        ("several(more={'a': 'inertia'})", "unknown strategy 'inertia'; known are: inert"),
        ("several(8)", "only strategies are given by position; write several(label=8)"),
    ],
)
def test_what_is_no_strategy_in_a_table_is_refused(several_plugins, spec, message):
    """It is named, and what was made before it is closed."""
    with pytest.raises(SpecError) as caught:
        build(read_spec(spec, several_plugins), several_plugins)

    assert message in str(caught.value)
    assert all(strategy.closed for strategy in made)
