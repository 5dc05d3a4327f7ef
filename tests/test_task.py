"""The values that travel: tasks and outcomes, and that nobody changes them on their way."""

import math
import pickle
from contextvars import copy_context

import attrs
import pytest

from stratagem import Engine, Outcome, Status, Task, TaskExitError, Wait, hookimpl


def test_a_status_is_its_own_word():
    """Each status equals the word that it is written as, everywhere a str goes."""
    assert [f"{status}" for status in Status] == ["ok", "error", "timeout", "lost", "cancelled"]
    assert Status.OK == "ok"


def test_only_ok_is_ok():
    """An outcome is ok with one status of the five."""
    outcomes = [Outcome(0, "0", "task", status) for status in Status]

    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, False]


def test_unwrap_gives_the_value_of_a_success():
    """What the task returned comes out, None too."""
    outcomes = [Outcome(0, "0", "task", Status.OK, value) for value in (7, None)]

    assert [outcome.unwrap() for outcome in outcomes] == [7, None]


def test_unwrap_raises_the_error_itself():
    """The very exception that the task raised is raised again."""
    error = KeyError("gone")
    outcome = Outcome(0, "0", "task", Status.ERROR, error=error)

    with pytest.raises(KeyError) as caught:
        outcome.unwrap()

    assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_unwrap_does_not_end_the_program(error):
    """An exception that would end the caller comes as an error that holds it."""
    outcome = Outcome(4, "four", "task", Status.ERROR, error=error)

    with pytest.raises(TaskExitError) as caught:
        outcome.unwrap()

    assert caught.value.key == "four"
    assert caught.value.__cause__ is error


def test_a_task_pickles_without_its_context():
    """A task comes through pickle as it was, less the context, which stays in its process."""
    task = Task(3, "three", "fn", math.sqrt, 1.5, 2, frozenset({"slow"}), copy_context())

    copied = pickle.loads(pickle.dumps(task))

    assert (copied, copied.context) == (task, None)


def test_a_task_evolves_into_another_attempt():
    """The next attempt of a task keeps all but the attempt, its context too."""
    context = copy_context()
    task = Task(3, "three", "fn", math.sqrt, 1.5, 1, frozenset({"slow"}), context)

    following = attrs.evolve(task, attempt=2)

    assert (task.attempt, following.attempt) == (1, 2)
    assert attrs.evolve(following, attempt=1) == task
    assert following.context is context


def test_an_outcome_pickles():
    """An outcome comes through pickle as it was."""
    outcome = Outcome(1, "k", "fn", Status.OK, [1, 2], None, 12.5, 0.25, "worker-1", 3)

    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_a_wait_without_seconds_is_until_woken():
    """A wait says how long, for ever by default, and can't be changed."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Wait().seconds = 1.0

    assert Wait() == Wait(math.inf)


class Witness:
    """Note every task and outcome as it is when a hook sees it."""

    def __init__(self):
        self.seen = []

    def note(self, value):
        self.seen.append((value, snapshot(value)))

    @hookimpl
    def stratagem_before_task(self, task):
        self.note(task)

    @hookimpl
    def stratagem_task_error(self, task, outcome):
        self.note(task)
        self.note(outcome)

    @hookimpl
    def stratagem_after_task(self, task, outcome):
        self.note(task)
        self.note(outcome)


def snapshot(value):
    return {
        name: getattr(value, name) for name in (field.name for field in attrs.fields(type(value)))
    }


def half_and_half(number):
    if number % 2:
        raise ValueError(number)
    return number


@pytest.mark.parametrize("strategy", ["sequential", "threads", "asyncio"])
def test_nobody_changes_a_task_or_an_outcome(strategy):
    """What hooks saw of tasks and outcomes still holds when the run is over."""
    witness = Witness()

    with Engine(plugins=[witness]) as engine:
        report = engine.map(half_and_half, range(50), strategy=strategy)

    assert len(witness.seen) == 50 + 25 * 2 + 50 * 2
    assert [snapshot(value) for value, _ in witness.seen] == [seen for _, seen in witness.seen]
    handed_on = {value.index: value for value, _ in witness.seen if isinstance(value, Outcome)}
    assert all(handed_on[outcome.index] is outcome for outcome in report)


@pytest.mark.parametrize("strategy", ["sequential", "threads", "asyncio"])
def test_a_hook_sees_one_task_from_before_to_after(strategy):
    """The task that ``before`` was told of is the object that ``after`` is told of."""
    witness = Witness()

    with Engine(plugins=[witness]) as engine:
        engine.map(half_and_half, range(20), strategy=strategy)

    tasks = [value for value, _ in witness.seen if isinstance(value, Task)]
    assert {index: len({id(t) for t in tasks if t.index == index}) for index in range(20)} == (
        dict.fromkeys(range(20), 1)
    )
