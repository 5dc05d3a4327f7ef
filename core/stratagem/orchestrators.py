"""Orchestrators: objects that are given a strategy and ask whole groups of people with it."""

import functools
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import attrs

from stratagem.default import default_engine
from stratagem.selection import SpecLike
from stratagem.strategy import ExecutionStrategy
from stratagem.stream import Stream

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
        value: the answer; None when there is none.
        error: why there is none; None when there is one.
    """

    question: Any
    user: int
    value: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        """Return the answer, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class IdeaToQuestionsOrchestrator:
    """Turn ideas into questions, and ask every user each of them, by one injected strategy."""
