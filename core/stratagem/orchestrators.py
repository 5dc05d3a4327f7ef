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
from stratagem.invoke import finish_alone, is_async, is_awaitable
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
        question: the question.
        user: the user's position among the users, from 0.
        position: the question's position among the questions, from 0.
        value: the answer; None when there is none.
        error: why there is none; None when there is one.
    """

    question: Any
    user: int
    position: int
    value: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        """Return the answer, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class IdeaToQuestionsOrchestrator:
    """Turn an idea into questions and ask every user each of them, by an injected strategy.

    Users are asked while questions are still being made.

    Args:
        execution_strategy: a strategy object, or a spec.
        generate: makes questions of an idea: a generator, or a function that returns an iterable;
            async forms of both.
    """

    def __init__(
        self,
        execution_strategy: "SpecLike | ExecutionStrategy",
        generate: Callable[[Any], Iterable[Any] | AsyncIterable[Any] | Awaitable[Iterable[Any]]],
    ) -> None:
        self.execution_strategy = _as_strategy(execution_strategy)
        self._generate = generate

    def ask(self, idea: object, agents: Iterable[Agent]) -> list[Answer]:
        """Ask every agent every question; give the answers by question, then by agent.

        Raises:
            BaseException: what ``generate`` raised; the partial report is its ``report``.
        """
        answers = list(self.stream(idea, agents))
        return sorted(answers, key=lambda answer: (answer.position, answer.user))

    def stream(self, idea: object, agents: Iterable[Agent]) -> Iterator[Answer]:
        """Ask every agent every question; give the answers as they come.

        Raises:
            BaseException: what ``generate`` raised; the partial report is its ``report``.
        """
        users = list(agents)
        asked: dict[int, _Ask] = {}
        calls: Iterable[_Ask] | AsyncIterable[_Ask]
        if inspect.isasyncgenfunction(self._generate) or is_async(self._generate):
            calls = self._make_calls_async(idea, users, asked)
        else:
            calls = self._make_calls(idea, users, asked)
        with default_engine().stream(
            calls, strategy=self.execution_strategy, key=_Ask.key
        ) as outcomes:
            for outcome in outcomes:
                yield asked.pop(outcome.index).answer(outcome)

    def _make_calls(
        self, idea: object, users: list[Agent], asked: dict[int, "_Ask"]
    ) -> Iterator["_Ask"]:
        made: Any = self._generate(idea)
        questions = finish_alone(made) if is_awaitable(made) else made
        for position, question in enumerate(questions):
            yield from _asks(position, question, users, asked)

    async def _make_calls_async(
        self, idea: object, users: list[Agent], asked: dict[int, "_Ask"]
    ) -> AsyncIterator["_Ask"]:
        made: Any = self._generate(idea)
        position = 0
        if is_awaitable(made):
            for position, question in enumerate(await made):
                for ask in _asks(position, question, users, asked):
                    yield ask
            return
        async for question in made:
            for ask in _asks(position, question, users, asked):
                yield ask
            position += 1


@attrs.frozen
class _Ask:
    """Ask one user one question."""

    position: int
    question: Any
    user: int
    agent: Agent

    def __call__(self) -> Any:
        return self.agent.ask(self.question)

    def key(self) -> str:
        return f"question-{self.position}/user-{self.user}"

    def answer(self, outcome: Outcome) -> Answer:
        return Answer(self.question, self.user, self.position, outcome.value, outcome.error)


def _asks(
    position: int, question: object, users: list[Agent], asked: dict[int, _Ask]
) -> Iterator[_Ask]:
    for user, agent in enumerate(users):
        ask = _Ask(position, question, user, agent)
        asked[position * len(users) + user] = ask
        yield ask
