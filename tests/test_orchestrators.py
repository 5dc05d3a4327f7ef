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


ONE_AT_A_TIME = [
    "sequential",
    "threads(max_workers=1)",
    "processes(max_workers=1)",
    "asyncio(max_concurrency=1)",
]


@pytest.mark.parametrize("spec", [*ONE_AT_A_TIME, *SPECS[1:]])
@pytest.mark.parametrize("is_async", [False, True])
def test_users_are_asked_while_questions_are_still_made(spec, is_async):
    """The first answer is there before the third question is, one worker or many."""
    answered = threading.Event()

    def generate(idea):
        for number in range(10):
            if number == 2:
                assert answered.wait(PATIENCE)
            yield f"{idea} {number}"

    async def generate_async(idea):
        for question in generate(idea):
            await asyncio.sleep(0)
            yield question

    with default_engine().strategy(spec) as strategy:
        orchestrator = IdeaToQuestionsOrchestrator(
            strategy, generate_async if is_async else generate
        )
        stream = orchestrator.stream("tea", AGENTS[:2])
        answers = [next(stream)]
        answered.set()
        answers += stream

    assert answers[0].position < 2
    assert sorted((answer.position, answer.user) for answer in answers) == [
        (position, user) for position in range(10) for user in range(2)
    ]


def test_questions_are_made_by_the_strategy_that_asks_them(strategy):
    """Tasks of one strategy make the questions, and the first is asked while others are made."""
    answered = threading.Event()

    def themes(idea):
        yield f"{idea} 0"
        assert answered.wait(PATIENCE)
        yield f"{idea} 1"

    def generate(idea):
        made = default_engine().stream_map(str.upper, themes(idea), strategy=strategy)
        return (outcome.value for outcome in made)

    stream = IdeaToQuestionsOrchestrator(strategy, generate).stream("tea", AGENTS[:1])
    answers = [next(stream)]
    answered.set()
    answers += stream

    assert [answer.value for answer in answers] == ["Ada on TEA 0", "Ada on TEA 1"]


def why(answer):
    return [] if "Cem" in answer.value else [f"why {answer.value}"]


async def why_async(answer):
    await asyncio.sleep(0)
    return why(answer)


@pytest.mark.parametrize("follow_up", [why, why_async])
def test_answers_lead_to_further_questions(strategy, follow_up):
    """The user is asked again because of the answer, as often in a row as ``max_depth`` says."""
    orchestrator = IdeaToQuestionsOrchestrator(
        strategy, lambda _: ["tea"], follow_up=follow_up, max_depth=2
    )
    answers = orchestrator.ask("drinks", AGENTS)

    assert [(answer.user, answer.path, answer.value) for answer in answers] == [
        (0, (), "Ada on tea"),
        (0, (0,), "Ada on why Ada on tea"),
        (0, (0, 0), "Ada on why Ada on why Ada on tea"),
        (1, (), "Ben on tea"),
        (1, (0,), "Ben on why Ben on tea"),
        (1, (0, 0), "Ben on why Ben on why Ben on tea"),
        (2, (), "Cem on tea"),
    ]


def test_a_follow_up_that_fails_costs_no_answer(strategy):
    """The answer stands; beside it one without a question says what went wrong."""

    def fail(answer):
        raise ConnectionError(answer.value)

    orchestrator = IdeaToQuestionsOrchestrator(strategy, lambda _: ["tea"], follow_up=fail)
    answers = orchestrator.ask("drinks", AGENTS[:1])

    assert sorted((str(a.question), a.value, str(a.error)) for a in answers) == [
        ("None", None, "Ada on tea"),
        ("tea", "Ada on tea", "None"),
    ]


def test_no_follow_up_is_made_where_none_would_be_asked():
    """With ``max_depth=0`` nobody is asked again, and nothing is made for it; -1 is refused."""
    orchestrator = IdeaToQuestionsOrchestrator(
        "sequential", three_questions, follow_up=why, max_depth=0
    )

    assert [answer.path for answer in orchestrator.ask("tea", AGENTS)] == [()] * 9
    with pytest.raises(ValueError, match="max_depth must be a whole number of at least 0"):
        IdeaToQuestionsOrchestrator("sequential", three_questions, max_depth=-1)


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
