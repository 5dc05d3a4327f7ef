"""Budgets: a limit by name that holds whatever runs the calls."""

import asyncio
import itertools
import os
import pickle
import signal
import sys
import threading
import time
from contextvars import Context
from functools import partial
from pathlib import Path

import attrs
import cloudpickle
import pytest

from stratagem import Budget, BudgetError, Engine, NestingError, nested, nested_async

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 30.0
_numbers = itertools.count()


@pytest.fixture
def name():
    """Give a name that no other test uses."""
    return f"budget of test {next(_numbers)}"


@attrs.frozen
class Flight:
    """Note who comes and goes, in a file that all processes append to."""

    path: Path

    def note(self, step):
        with self.path.open("a") as file:
            file.write(f"{time.monotonic_ns()} {step}\n")

    def peak(self):
        steps = [int(line.split()[1]) for line in sorted(self.path.read_text().splitlines())]
        return max(itertools.accumulate(steps))


def call(budget, flight, number):
    with budget:
        flight.note(1)
        time.sleep(0.01)  # a call takes its time
        flight.note(-1)
    return number


async def call_async(budget, flight, number):
    async with budget:
        flight.note(1)
        await asyncio.sleep(0.01)  # a call takes its time
        flight.note(-1)
    return number


def test_a_budget_holds_over_strategies_threads_and_processes_at_once(engine, name, tmp_path):
    """Three runs at once, each with room for more, together never pass the limit."""
    budget, flight = Budget(name, 3), Flight(tmp_path / "flight")
    works = {
        "threads(max_workers=8)": call,
        "asyncio(max_concurrency=20)": call_async,
        "processes(max_workers=4)": call,
    }
    values = {}

    def run(spec, work):
        values[spec] = engine.map(partial(work, budget, flight), range(15), strategy=spec).values

    runs = [threading.Thread(target=run, args=item) for item in works.items()]
    for each in runs:
        each.start()
    for each in runs:
        each.join(PATIENCE)

    assert values == {spec: list(range(15)) for spec in works}
    assert 2 <= flight.peak() <= 3


def test_a_budget_holds_over_children_in_workers(engine, name, tmp_path):
    """Leaves of nested runs take it; their parents, who have not, never stand in their way."""
    budget, flight = Budget(name, 1), Flight(tmp_path / "flight")

    def parent(number):
        return nested([partial(call, budget, flight, number + each) for each in range(4)])

    report = engine.map(parent, [0, 10], strategy="processes(max_workers=3)")

    assert report.values == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert flight.peak() == 1


def test_who_asks_first_is_served_first(name):
    """Places are handed on in the order in which they were asked for."""
    budget, order = Budget(name, 1), []

    async def ask(number):
        async with budget:
            order.append(number)

    async def main():
        async with budget:
            waiting = [asyncio.ensure_future(ask(number)) for number in range(5)]
            await asyncio.sleep(0)  # each asks, and waits
        await asyncio.gather(*waiting)

    asyncio.run(main())

    assert order == [0, 1, 2, 3, 4]


def test_who_stops_waiting_leaves_the_queue(name):
    """A coroutine that is cancelled while it waits takes no place with it."""
    budget = Budget(name, 1)

    async def main():
        async with budget:
            waiting = asyncio.ensure_future(budget.__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        async with budget:
            return "had it"

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == "had it"


@pytest.mark.parametrize("spec", ["threads(max_workers=2)", "processes(max_workers=1)"])
def test_a_place_comes_back_whatever_the_call_does(engine, name, spec):
    """After a call that raises, and one that is over its deadline, others have the place."""
    budget = Budget(name, 1)

    def work(number):
        with budget:
            if number == 0:
                raise KeyError(number)
            if number == 1 and spec.startswith("processes"):
                time.sleep(PATIENCE)
        return number

    report = engine.map(work, range(4), strategy=spec, timeout=2)

    assert [outcome.value for outcome in report][2:] == [2, 3]
    assert report[0].status == "error"


def test_a_worker_that_dies_gives_its_place_back(engine, name):
    """The parent process keeps the count, so a kill costs no place."""
    budget = Budget(name, 1)

    def work(number):
        with budget:
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

    report = engine.map(work, range(3), strategy="processes(max_workers=2)")

    assert [outcome.status for outcome in report] == ["lost", "ok", "ok"]


def test_one_name_has_one_limit(name):
    """A second limit is refused where the budget is made, naming both."""
    Budget(name, 2)
    again = Budget(name, 2)

    with pytest.raises(ValueError, match="has the limit 2, so it cannot have 5"):
        Budget(name, 5)
    assert again.limit == 2


def test_a_worker_that_has_another_limit_is_told(engine, name):
    """Where a worker makes the budget of its own, the limit of the program counts."""
    Budget(name, 2)

    def work(number):
        with Budget(name, 5):
            return number

    report = engine.map(work, [0], strategy="processes(max_workers=1, start_method='spawn')")

    assert isinstance(report[0].error, BudgetError)
    assert "has the limit 2, so it cannot have 5" in str(report[0].error)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "3"])
def test_a_limit_is_a_positive_number(name, wrong):
    """Anything else is refused, naming the option."""
    with pytest.raises((ValueError, TypeError), match="limit"):
        Budget(name, wrong)


def test_a_budget_needs_a_name():
    """Without one it would be shared with everybody or nobody."""
    with pytest.raises(ValueError, match="name"):
        Budget("", 1)
    with pytest.raises(TypeError, match="name"):
        Budget(3, 1)


def test_a_budget_within_itself_is_an_error_not_a_deadlock(name):
    """Code that has a place and asks for another one would wait for itself."""
    budget = Budget(name, 1)

    async def twice():
        async with budget, Budget(name, 1):
            pass

    with pytest.raises(BudgetError, match="take it around the innermost call alone"), budget:
        budget.__enter__()
    with pytest.raises(BudgetError, match="innermost call"):
        asyncio.run(twice())
    with budget:
        pass


def test_a_loop_is_not_blocked_by_the_wait_for_a_place(name):
    """Who could give the place back runs on that loop, so a coroutine is told of ``async with``."""
    budget = Budget(name, 1)

    async def take():
        with budget:
            return "had it"

    async def take_while_another_has_it():
        async with budget:
            await asyncio.create_task(take())

    with pytest.raises(BudgetError, match="use `async with`"):
        asyncio.run(take_while_another_has_it())
    assert asyncio.run(take()) == "had it"


@pytest.mark.parametrize("spec", ["sequential", "threads", "asyncio", "processes(max_workers=1)"])
def test_children_within_a_budget_are_refused(engine, name, spec):
    """A parent that has a place might wait for children that wait for it."""
    budget = Budget(name, 1)

    def parent(_item):
        with budget:
            return nested([partial(abs, -1)])

    async def parent_async(_item):
        async with budget:
            return await nested_async([partial(abs, -1)])

    errors = [engine.map(work, [0], strategy=spec)[0].error for work in (parent, parent_async)]

    assert [type(error) for error in errors] == [NestingError] * 2
    assert "innermost call" in str(errors[0])


def test_what_a_task_leaves_behind_may_ask_once_the_place_is_given_back(name):
    """A coroutine that was started within a budget is not taken for one that has a place."""
    budget = Budget(name, 1)

    async def later(given_back):
        await given_back.wait()
        async with budget:
            return "had it"

    async def main():
        given_back = asyncio.Event()
        async with budget:
            behind = asyncio.ensure_future(later(given_back))
        given_back.set()
        return await asyncio.wait_for(behind, PATIENCE)

    assert asyncio.run(main()) == "had it"


def test_a_place_may_be_left_in_another_context(name):
    """Generators and fixtures may be ended elsewhere than where they began."""
    budget = Budget(name, 1)

    Context().run(budget.__enter__)
    Context().run(budget.__exit__, None, None, None)

    with budget:
        pass


def test_a_budget_travels_by_name(name):
    """A copy out of a pickle is the same budget."""
    budget = Budget(name, 2)

    assert repr(pickle.loads(pickle.dumps(budget))) == repr(budget) == f"Budget({name!r}, 2)"


def test_a_hundred_waiters_lose_no_place(name):
    """However threads come and go, all get through and the places are all there at the end."""
    budget, passed = Budget(name, 3), []

    def work(number):
        with budget:
            passed.append(number)

    with Engine("threads(max_workers=32)") as engine:
        engine.map(work, range(2_000)).raise_for_errors()

    assert sorted(passed) == list(range(2_000))
    with budget:
        pass
