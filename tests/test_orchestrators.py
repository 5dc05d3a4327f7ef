"""The orchestrators: asking groups of users by an injected strategy, and asking while thinking."""

import asyncio
import sys
import threading
from functools import partial

import cloudpickle
import pytest

from stratagem import (
    Answer,
    IdeaToQuestionsOrchestrator,
    UnknownStrategyError,
    UserQuestionOrchestrator,
    default_engine,
)
from stratagem_builtin import SequentialStrategy, ThreadPoolStrategy

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 20.0
SPECS = ["sequential", "threads(max_workers=2)", "processes(max_workers=2)", "asyncio"]


class Agent:
    def __init__(self, name):
        self.name = name

    def ask(self, question):
        if "secret" in question:
            raise PermissionError(f"{self.name} will not tell")
        return f"{self.name} on {question}"


class AsyncAgent(Agent):
    async def ask(self, question):
        await asyncio.sleep(0)
        return super().ask(question)


AGENTS = [Agent("Ada"), AsyncAgent("Ben"), Agent("Cem")]


@pytest.fixture(params=SPECS)
def strategy(request):
    with default_engine().strategy(request.param) as made:
        yield made


def three_questions(idea):
    return [f"{idea} {number}" for number in range(3)]


def generated(idea):
    yield from three_questions(idea)


async def awaited(idea):
    await asyncio.sleep(0)
    return three_questions(idea)


async def generated_async(idea):
    for question in three_questions(idea):
        await asyncio.sleep(0)
        yield question


EXPECTED = [
    Answer(f"tea {position}", user, position, f"{agent.name} on tea {position}")
    for position in range(3)
    for user, agent in enumerate(AGENTS)
]


def test_users_are_asked_in_their_order(strategy):
    """``ask_all`` and ``ask`` return the answers in the order of users, under every strategy."""
    orchestrator = UserQuestionOrchestrator(strategy)
    by_hand = orchestrator.ask_all([partial(agent.ask, "tea") for agent in AGENTS])

    assert by_hand == orchestrator.ask(AGENTS, "tea") == [f"{a.name} on tea" for a in AGENTS]


def test_the_first_user_who_fails_is_raised(strategy):
    """What an agent raises comes to the one who asks, as it was raised."""
    with pytest.raises(PermissionError, match="will not tell"):
        UserQuestionOrchestrator(strategy).ask(AGENTS, "a secret")


@pytest.mark.parametrize("generate", [three_questions, generated, awaited, generated_async])
def test_an_idea_is_asked_about_whatever_makes_the_questions(strategy, generate):
    """Lists and generators, sync or async: every question to every user, in both orders."""
    answers = IdeaToQuestionsOrchestrator(strategy, generate).ask("tea", AGENTS)

    assert answers == EXPECTED


def test_one_user_who_fails_costs_one_answer():
    """The answer says why there is none; all others are there."""
    orchestrator = IdeaToQuestionsOrchestrator("sequential", lambda _: ["tea", "a secret"])
    answers = orchestrator.ask("drinks", AGENTS[:1])

    assert [(a.position, a.value) for a in answers] == [(0, "Ada on tea"), (1, None)]
    with pytest.raises(PermissionError, match="Ada will not tell"):
        answers[1].unwrap()


@pytest.mark.parametrize("spec", ["threads(max_workers=2)", "asyncio"])
def test_users_are_asked_while_questions_are_still_made(spec):
    """The first answers are there before the second question is."""
    answered = threading.Event()

    def generate(idea):
        yield f"{idea} 0"
        assert answered.wait(PATIENCE)
        yield f"{idea} 1"

    orchestrator = IdeaToQuestionsOrchestrator(spec, generate)
    answers = orchestrator.stream("tea", AGENTS[:2])
    first = [next(answers) for _ in range(2)]
    answered.set()
    rest = list(answers)

    assert [answer.position for answer in first + rest] == [0, 0, 1, 1]
    assert {answer.value for answer in rest} == {"Ada on tea 1", "Ben on tea 1"}


def test_questions_that_cannot_be_made_end_the_asking_with_what_was_answered():
    """The error of the generator is raised and carries the answers until then."""

    def generate(idea):
        yield f"{idea} 0"
        raise ConnectionError("no more ideas")

    with pytest.raises(ConnectionError, match="no more ideas") as caught:
        IdeaToQuestionsOrchestrator("threads", generate).ask("tea", AGENTS)

    assert [outcome.value for outcome in caught.value.report] == [
        f"{agent.name} on tea 0" for agent in AGENTS
    ]
    assert [outcome.key for outcome in caught.value.report] == [
        f"question-0/user-{user}" for user in range(3)
    ]


def test_leaving_early_stops_the_making_of_questions():
    """Who stops reading answers to an endless idea ends it."""
    over = threading.Event()

    def generate(idea):
        try:
            while True:
                yield idea
        finally:
            over.set()

    answers = IdeaToQuestionsOrchestrator("threads(max_workers=2)", generate).stream("tea", AGENTS)
    first = next(answers)
    answers.close()

    assert first.question == "tea"
    assert over.wait(PATIENCE)


@pytest.mark.parametrize("questions", [[], [""]])
def test_few_questions_and_no_users_are_no_trouble(questions):
    """No questions, or nobody to ask, is an empty list of answers."""
    orchestrator = IdeaToQuestionsOrchestrator("sequential", lambda _: questions)

    assert orchestrator.ask("tea", []) == []
    assert len(orchestrator.ask("tea", AGENTS[:1])) == len(questions)


def test_a_spec_is_as_good_as_a_strategy():
    """Both orchestrators make the strategy of a spec; a wrong one is refused at once."""
    made = UserQuestionOrchestrator(execution_strategy="sequential")
    given = SequentialStrategy()

    assert isinstance(made.execution_strategy, SequentialStrategy)
    assert UserQuestionOrchestrator(execution_strategy=given).execution_strategy is given
    with pytest.raises(UnknownStrategyError, match="threads"):
        IdeaToQuestionsOrchestrator("thraeds", three_questions)


def test_many_ideas_can_be_asked_about_at_once():
    """Runs of one orchestrator in several threads do not mix their answers."""
    with ThreadPoolStrategy(max_workers=3) as strategy:
        orchestrator = IdeaToQuestionsOrchestrator(strategy, three_questions)
        answers = {}

        def ask(idea):
            answers[idea] = [answer.value for answer in orchestrator.ask(idea, AGENTS[:1])]

        threads = [threading.Thread(target=ask, args=(f"idea-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    assert answers == {
        f"idea-{n}": [f"Ada on idea-{n} {position}" for position in range(3)] for n in range(8)
    }
