"""Plugins as objects given in code: what fits the hooks, and what is refused whole."""

import sys

import pytest

from stratagem import (
    AmbiguousStrategyError,
    Engine,
    ExecutionStrategy,
    PluginError,
    StrategyInfo,
    StrategyOptionError,
    UnknownStrategyError,
    hookimpl,
)
from stratagem.plugins import Plugins


class Mine(ExecutionStrategy):
    """Be a strategy given in code."""

    def run_tasks(self, callables):
        return [call() for call in callables]


class Offering:
    """Offer ``Mine`` under a name."""

    def __init__(self, name="mine"):
        self.name = name

    @hookimpl
    def stratagem_strategies(self):
        return [StrategyInfo(self.name, Mine)]


def test_objects_that_are_namesakes_can_be_told_apart():
    """The forms that the error shows for objects, and for one of ours, all choose."""
    engine = Engine(plugins=[Offering("threads"), Offering("threads")])

    with pytest.raises(AmbiguousStrategyError) as caught:
        engine.strategy("threads")

    assert caught.value.choices == ["Offering:threads", "Offering-2:threads", "stratagem:threads"]
    made = [type(engine.strategy(choice)).__name__ for choice in caught.value.choices]
    assert made == ["Mine", "Mine", "ThreadPoolStrategy"]


class Placed:
    """Offer a strategy by its place, and one by a place where nothing is."""

    @hookimpl
    def stratagem_strategies(self):
        return [
            StrategyInfo("there", "placed_strategy:Outer.Nested", "comes when asked for"),
            StrategyInfo("gone", "placed_strategy:Nothing"),
            StrategyInfo("lost", "no_such_module:Nothing"),
        ]


@pytest.fixture
def placed_strategy(tmp_path, monkeypatch):
    """Put a module on the path; give its name."""
    text = """
from stratagem import ExecutionStrategy

class Outer:
    class Nested(ExecutionStrategy):
        can_kill = True
        def __init__(self, answer: int = 1): self.answer = answer
        def run_tasks(self, callables): return [call() for call in callables]
"""
    (tmp_path / "placed_strategy.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "placed_strategy"
    sys.modules.pop("placed_strategy", None)


def test_a_strategy_given_by_its_place_is_imported_when_it_is_asked_for(placed_strategy):
    """Its options are read and its strategy is made as if the class itself were given."""
    with Engine(plugins=[Placed()]) as engine:
        before = placed_strategy in sys.modules
        made = engine.strategy("there(answer=7)")
        with pytest.raises(StrategyOptionError, match="its options are: answer"):
            engine.strategy("there(answr=7)")

    assert not before
    assert (type(made).__qualname__, made.answer) == ("Outer.Nested", 7)


def test_a_place_where_nothing_is_harms_one_strategy_alone(placed_strategy):
    """Who asks for it hears which strategy it is, and why; the others are offered as ever."""
    with Engine(plugins=[Placed()]) as engine:
        for name, why in [("gone", "AttributeError: "), ("lost", "ModuleNotFoundError: ")]:
            with pytest.raises(PluginError, match=f"factory of strategy '{name}' .*{why}"):
                engine.strategy(name)
        offers = {offer.info.name: offer.info for offer in engine.plugins.offers()}

    able = [name for name in ("there", "gone", "lost") if offers[name].can("can_kill")]
    assert able == ["there"]


class UnknownHook:
    @hookimpl
    def stratagem_after_tusk(self, task):
        """Listen to what is never told."""


class UnknownArgument:
    @hookimpl
    def stratagem_after_task(self, outcome):
        """Fit; it must not be called for a plugin that is refused."""
        raise AssertionError(outcome)

    @hookimpl
    def stratagem_before_task(self, tusk):
        """Want what there is not."""


class Wrapper:
    @hookimpl(wrapper=True)
    def stratagem_after_task(self):
        """Wrap."""
        return (yield)


class OldWrapper:
    @hookimpl(hookwrapper=True)
    def stratagem_after_task(self):
        """Wrap in the old way."""
        yield


class OffersNames:
    @hookimpl
    def stratagem_strategies(self):
        return ["mine"]


class OffersOne:
    @hookimpl
    def stratagem_strategies(self):
        return StrategyInfo("mine", Mine)


MISFITS = [
    (
        UnknownHook,
        "plugin 'UnknownHook' implements 'stratagem_after_tusk', which is no hook; the hooks are: ",
    ),
    (UnknownArgument, "Argument(s) {'tusk'} are declared in the hookimpl but can not be found"),
    (
        Wrapper,
        "plugin 'Wrapper' wraps 'stratagem_after_task', but listeners only observe: "
        "leave `wrapper=True` out",
    ),
    (OldWrapper, "plugin 'OldWrapper' wraps 'stratagem_after_task', but listeners only observe"),
    (
        OffersNames,
        "plugin 'OffersNames' offered 'mine'; "
        "stratagem_strategies must return StrategyInfo records",
    ),
    (OffersOne, "plugin 'OffersOne' offered StrategyInfo(name='mine'"),
]


@pytest.mark.parametrize(("misfit", "message"), MISFITS, ids=[cls.__name__ for cls, _ in MISFITS])
def test_an_object_that_does_not_fit_the_hooks_is_refused_whole(misfit, message):
    """The error says what does not fit, and nothing of the plugin stays behind."""
    engine = Engine(plugins=[])
    rows, registered = list(engine.plugins.rows), engine.plugins.manager.get_plugins()

    with pytest.raises(PluginError) as caught:
        engine.plugins.register(misfit())

    assert message in str(caught.value)
    assert (engine.plugins.rows, engine.plugins.manager.get_plugins()) == (rows, registered)
    assert engine.run([int], strategy="sequential").hook_failures == ()
    with pytest.raises(UnknownStrategyError):
        engine.strategy("mine")


def test_one_object_is_registered_once():
    """An object that is given twice is refused, and stays registered as it was."""
    offering = Offering()

    with pytest.raises(PluginError) as caught:
        Engine(plugins=[offering, offering])
    plugins = Plugins(allow=[])
    plugins.register(offering)
    with pytest.raises(PluginError):
        plugins.register(offering)

    assert str(caught.value) == "plugin 'Offering-2' is registered already, as 'Offering'"
    assert plugins.strategy_info("mine").factory is Mine
