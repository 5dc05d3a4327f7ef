"""Routes: which tasks go to which strategy."""

from collections.abc import Callable

import attrs

from stratagem import ExecutionStrategy, Task, is_async

__all__ = ["Route", "Rule", "calls_coroutine", "has_tag"]

Rule = Callable[[Task], object]
"""Tells whether a task takes a route. It is asked once a task and attempt, from any thread."""


def calls_coroutine(task: Task) -> bool:
    """Tell whether a task calls a coroutine function, also through ``partial`` and methods."""
    return is_async(task.call)


def has_tag(tag: str) -> Rule:
    """Make the rule for tasks that have ``tag``."""
    return lambda task: tag in task.tags


@attrs.frozen
class Route:
    """Send the tasks that a rule picks to a strategy.

    Attributes:
        name: what messages call it.
        when: the rule, a function of the task.
        strategy: what runs them; it is closed with the strategy that has the route.

    Raises:
        TypeError: a field is not what it must be.
    """

    name: str
    when: Rule
    strategy: ExecutionStrategy

    def __attrs_post_init__(self) -> None:
        """Refuse what is no route."""
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"the name of a route must be a word, not {self.name!r}")
        if not callable(self.when):
            raise TypeError(
                f"route {self.name!r} needs a function of the task for its rule, "
                f'such as has_tag("cpu"), not {self.when!r}'
            )
        if not isinstance(self.strategy, ExecutionStrategy):
            raise TypeError(
                f"route {self.name!r} needs a strategy object, not {self.strategy!r}; "
                'stratagem.strategy("threads") makes one of a spec'
            )
