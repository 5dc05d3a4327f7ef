"""Callables that share one loop variable: which of them draw a warning, and that its advice works."""

import functools
import warnings

import pytest

from stratagem import IdeaToQuestionsOrchestrator, LateBindingWarning, UserQuestionOrchestrator
from stratagem_builtin import SequentialStrategy, ThreadPoolStrategy


class Agent:
    def __init__(self, name):
        self.name = name

    def ask(self, question):
        return f"{self.name} on {question}"


AGENTS = [Agent("Ada"), Agent("Ben"), Agent("Cem")]
ANSWERS = ["Ada on tea", "Ben on tea", "Cem on tea"]


def in_comprehension(agents, question):
    return [lambda: agent.ask(question) for agent in agents]


def in_loop(agents, question):
    calls = []
    for agent in agents:
        calls.append(lambda: agent.ask(question))
    return calls


def by_partial(agents, question):
    return [functools.partial(agent.ask, question) for agent in agents]


def by_default(agents, question):
    return [lambda agent=agent: agent.ask(question) for agent in agents]


def by_factory(agents, question):
    def bind(agent):
        return lambda: agent.ask(question)

    return [bind(agent) for agent in agents]


SHARED = [in_comprehension, in_loop]
BOUND = [by_partial, by_default, by_factory]


@pytest.fixture
def strategy():
    with ThreadPoolStrategy(max_workers=2) as made:
        yield made


def test_the_trap_is_real():
    """Without a warning, every callable of the document's example would ask the last agent."""
    answers = [call() for call in in_comprehension(AGENTS, "tea")]

    assert answers == ["Cem on tea"] * 3


@pytest.mark.parametrize("make", SHARED)
def test_asking_all_by_callables_that_share_a_variable_warns(strategy, make):
    """The example of the document draws a warning that names the variables and shows two ways out."""
    orchestrator = UserQuestionOrchestrator(execution_strategy=strategy)

    with pytest.warns(LateBindingWarning) as caught:
        orchestrator.ask_all(make(AGENTS, "tea"))

    [message] = [str(warning.message) for warning in caught]
    assert make.__name__ in message
    assert "functools.partial(function, agent)" in message
    assert "lambda agent=agent: ..." in message


@pytest.mark.parametrize("make", BOUND)
def test_the_ways_that_the_warning_teaches_ask_every_agent(strategy, make):
    """Callables with values of their own give each agent's answer, and draw no warning."""
    orchestrator = UserQuestionOrchestrator(execution_strategy=strategy)
    answers = orchestrator.ask_all(make(AGENTS, "tea"))

    assert answers == ANSWERS


@pytest.mark.parametrize("agents", [AGENTS, tuple(AGENTS)])
def test_ask_binds_every_agent(strategy, agents):
    """``ask`` takes agents and a question, and leaves nothing to bind wrongly."""
    assert UserQuestionOrchestrator(strategy).ask(agents, "tea") == ANSWERS


def test_ideas_bind_every_agent_and_question(strategy):
    """Questions made one by one are each put to every agent under their own names."""
    orchestrator = IdeaToQuestionsOrchestrator(strategy, lambda idea: [f"{idea} 1", f"{idea} 2"])
    answers = orchestrator.ask("tea", AGENTS)

    assert [answer.unwrap() for answer in answers] == [
        f"{name} on tea {number}" for number in (1, 2) for name in ("Ada", "Ben", "Cem")
    ]


@pytest.mark.parametrize("make", SHARED)
@pytest.mark.parametrize("form", ["run", "stream"])
def test_the_engine_warns_of_a_sequence(engine, make, form):
    """``run`` and ``stream`` warn as the orchestrator does, before anything runs."""
    calls = make(AGENTS, "tea")

    with pytest.warns(LateBindingWarning, match=make.__name__):
        list(getattr(engine, form)(calls, strategy="sequential"))


@pytest.mark.parametrize("make", SHARED)
@pytest.mark.parametrize("strategy_name", ["sequential", "threads"])
def test_the_engine_warns_of_an_iterator(engine, make, strategy_name):
    """Callables that come one by one are looked at as they come."""
    calls = iter(make(AGENTS, "tea"))

    with pytest.warns(LateBindingWarning, match=make.__name__):
        engine.run(calls, strategy=strategy_name)


def test_the_warning_points_at_the_code_that_made_the_call():
    """The warning stands at the caller's line, not at one of the library."""
    strategy = SequentialStrategy()

    with pytest.warns(LateBindingWarning) as caught:
        strategy.run_tasks(in_loop(AGENTS, "tea"))

    assert [warning.filename for warning in caught] == [__file__]


def test_a_long_batch_warns_once(strategy):
    """However many callables share their variables, there is one warning."""
    with pytest.warns(LateBindingWarning) as caught:
        strategy.run_tasks(in_loop(AGENTS * 50, "tea"))

    assert len(caught) == 1


def repeated(_agents, _question):
    number = 3

    def call():
        return number

    return [call] * 3


def without_closure(_agents, _question):
    return [lambda: 3 for _ in range(3)]


def of_different_functions(_agents, _question):
    number = 3
    return [lambda: number, lambda: number + 0, lambda: number * 1]


@pytest.mark.parametrize("make", [*BOUND, repeated, without_closure, of_different_functions])
@pytest.mark.parametrize("form", [list, iter])
def test_callables_that_do_what_they_seem_to_draw_no_warning(engine, make, form):
    """Bound values, one callable many times, and lambdas over nothing are left in peace."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        report = engine.run(form(make(AGENTS, "tea")), strategy="sequential")

    assert (caught, report.ok, len(report)) == ([], True, 3)
