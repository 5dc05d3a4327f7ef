"""Orchestrators: objects that are given a strategy and ask whole groups of people with it."""

import functools
import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, Protocol

import attrs

from stratagem.default import default_engine
from stratagem.expansion import Expansion
from stratagem.invoke import finish_alone, is_async, is_awaitable
from stratagem.options import require_count
from stratagem.selection import SpecLike
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Outcome

__all__ = ["Agent", "Answer", "IdeaToQuestionsOrchestrator", "UserQuestionOrchestrator"]


class Agent(Protocol):
    """Be somebody who can be asked."""

    def ask(self, question: Any) -> Any:
        """Answer, now or as an awaitable."""


def _as_strategy(given: "SpecLike | ExecutionStrategy") -> ExecutionStrategy:
    return given if isinstance(given, ExecutionStrategy) else default_engine().strategy(given)


class UserQuestionOrchestrator:
    """Ask users by an injected strategy.

    Args:
        execution_strategy: a strategy object, or a spec such as ``"threads(max_workers=8)"``.
    """

    def __init__(self, execution_strategy: "SpecLike | ExecutionStrategy") -> None:
        self.execution_strategy = _as_strategy(execution_strategy)

    def ask_all(self, user_callables: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call every callable and return the results, in their order.

        Raises:
            Exception: the first failure in time.
        """
        return self.execution_strategy.run_tasks(user_callables)

    def ask(self, agents: Iterable[Agent], question: object) -> list[Any]:
        """Ask every agent the question and return the answers, in the order of the agents.

        Raises:
            Exception: the first failure in time.
        """
        return self.execution_strategy.run_tasks(
            [functools.partial(agent.ask, question) for agent in agents]
        )


@attrs.frozen
class Answer:
    """Hold what one user said to one question.

    Attributes:
        question: the question; None where no follow-up questions could be made.
        user: the user's position among the users, from 0.
        position: the question's position among the questions, from 0.
        value: the answer; None when there is none.
        error: why there is none; None when there is one.
        path: which follow-up of that question it is, by its position at each level;
            empty for the question itself.
    """

    question: Any
    user: int
    position: int
    value: Any = None
    error: BaseException | None = None
    path: tuple[int, ...] = ()

    def unwrap(self) -> Any:
        """Return the answer, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class IdeaToQuestionsOrchestrator:
    """Turn an idea into questions and ask every user each of them, by an injected strategy.

    Users are asked while questions are still being made, under every strategy,
    since ``generate`` is the input of the run and no task of it: a task has no outcome,
    and so no question, before it ends.
    To make questions by the strategy, have ``generate`` give the outcomes of a ``stream`` of it.

    Args:
        execution_strategy: a strategy object, or a spec.
        generate: makes questions of an idea: a generator, or a function that returns an iterable;
            async forms of both.
        follow_up: makes further questions to the same user of an ``Answer``: a function
            that returns an iterable, or an awaitable of one. It is a task of its own.
        max_depth: how often in a row an answer leads to further questions.

    Raises:
        ValueError: ``max_depth`` is no whole number of at least 0.
    """

    def __init__(
        self,
        execution_strategy: "SpecLike | ExecutionStrategy",
        generate: Callable[[Any], Iterable[Any] | AsyncIterable[Any] | Awaitable[Iterable[Any]]],
        *,
        follow_up: Callable[[Answer], Iterable[Any] | Awaitable[Iterable[Any]]] | None = None,
        max_depth: int = 1,
    ) -> None:
        most = require_count("max_depth", max_depth, least=0)
        self.execution_strategy = _as_strategy(execution_strategy)
        self._generate = generate
        self._interview = _Interview(follow_up, 0 if follow_up is None else most)

    def ask(self, idea: object, agents: Iterable[Agent]) -> list[Answer]:
        """Ask every agent every question; give the answers by question, then by agent.

        Answers to follow-up questions come behind the answer that they follow.

        Raises:
            BaseException: what ``generate`` raised; the partial report is its ``report``.
        """
        answers = list(self.stream(idea, agents))
        return sorted(answers, key=lambda answer: (answer.position, answer.user, answer.path))

    def stream(self, idea: object, agents: Iterable[Agent]) -> Iterator[Answer]:
        """Ask every agent every question; give the answers as they come.

        Raises:
            BaseException: what ``generate`` raised; the partial report is its ``report``.
        """
        users = list(agents)
        asks: Iterable[_Ask] | AsyncIterable[_Ask]
        if inspect.isasyncgenfunction(self._generate) or is_async(self._generate):
            asks = self._make_asks_async(idea, users)
        else:
            asks = self._make_asks(idea, users)
        open_items: dict[str, _Ask | _FollowUp] = {}

        def note(item: "_Ask | _FollowUp") -> str:
            open_items[item.key] = item
            return item.key

        with default_engine().expand(
            self._interview, asks, strategy=self.execution_strategy, key=note, duplicates="raise"
        ) as outcomes:
            for outcome in outcomes:
                answer = open_items.pop(outcome.key).answer(outcome)
                if answer is not None:
                    yield answer

    def _make_asks(self, idea: object, users: list[Agent]) -> Iterator["_Ask"]:
        made: Any = self._generate(idea)
        questions = finish_alone(made) if is_awaitable(made) else made
        for position, question in enumerate(questions):
            yield from _asks(position, question, users)

    async def _make_asks_async(self, idea: object, users: list[Agent]) -> AsyncIterator["_Ask"]:
        made: Any = self._generate(idea)
        position = 0
        if is_awaitable(made):
            for position, question in enumerate(await made):
                for ask in _asks(position, question, users):
                    yield ask
            return
        async for question in made:
            for ask in _asks(position, question, users):
                yield ask
            position += 1


@attrs.frozen
class _Ask:
    """Be one question to one user."""

    position: int
    question: Any
    user: int
    agent: Agent
    path: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        steps = "".join(f"/{step}" for step in self.path)
        return f"question-{self.position}/user-{self.user}{steps}"

    def answered(self, value: object, error: BaseException | None = None) -> Answer:
        return Answer(self.question, self.user, self.position, value, error, self.path)

    def answer(self, outcome: Outcome) -> Answer | None:
        return self.answered(outcome.value, outcome.error)

    def leading_on(self, value: object) -> Expansion:
        return Expansion(value, [_FollowUp(self, value)])

    def followed_by(self, questions: Iterable[Any]) -> Expansion:
        return Expansion(
            None,
            [
                attrs.evolve(self, question=question, path=(*self.path, step))
                for step, question in enumerate(questions)
            ],
        )


@attrs.frozen
class _FollowUp:
    """Be the making of further questions, of one answer."""

    ask: _Ask
    value: Any

    @property
    def key(self) -> str:
        return f"{self.ask.key}/follow-up"

    def answer(self, outcome: Outcome) -> Answer | None:
        """Tell of what went wrong; questions that were made are told by their answers."""
        if outcome.error is None:
            return None
        return attrs.evolve(self.ask.answered(None, outcome.error), question=None)


@attrs.frozen
class _Interview:
    """Ask, and make follow-up questions, as the tasks of one expansion."""

    follow_up: Callable[[Answer], Iterable[Any] | Awaitable[Iterable[Any]]] | None
    max_depth: int

    def __call__(self, item: _Ask | _FollowUp) -> Any:
        if isinstance(item, _FollowUp):
            assert self.follow_up is not None
            answer = item.ask.answered(item.value)
            return _then(item.ask.followed_by, self.follow_up(answer))
        given = item.agent.ask(item.question)
        return _then(item.leading_on, given) if len(item.path) < self.max_depth else given


def _then(function: Callable[[Any], Any], given: Any) -> Any:
    """Call ``function`` with what was given, as soon as that is there."""
    return _then_later(function, given) if is_awaitable(given) else function(given)


async def _then_later(function: Callable[[Any], Any], given: Awaitable[Any]) -> Any:
    return function(await given)


def _asks(position: int, question: object, users: list[Agent]) -> Iterator[_Ask]:
    for user, agent in enumerate(users):
        yield _Ask(position, question, user, agent)
