"""The document that the project started from: each of its samples runs, under its own names."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest

import stratagem_builtin
from stratagem import Engine, ExecutionStrategy, TaskLostError, UserQuestionOrchestrator
from stratagem.testing import tasks

STRATEGIES = """
from stratagem import ExecutionStrategy
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
import asyncio

class SequentialStrategy(ExecutionStrategy):
    def run_tasks(self, callables):
        return [fn() for fn in callables]

class ThreadPoolStrategy(ExecutionStrategy):
    def __init__(self, max_workers=8):
        self.max_workers = max_workers
    def run_tasks(self, callables):
        with ThreadPoolExecutor(max_workers=self.max_workers) as executor:
            futures = [executor.submit(fn) for fn in callables]
            return [f.result() for f in futures]

class ProcessPoolStrategy(ExecutionStrategy):
    def __init__(self, max_workers=4):
        self.max_workers = max_workers
    def run_tasks(self, callables):
        with ProcessPoolExecutor(max_workers=self.max_workers) as executor:
            futures = [executor.submit(fn) for fn in callables]
            return [f.result() for f in futures]

class AsyncStrategy(ExecutionStrategy):
    async def run_tasks_async(self, coros):
        return await asyncio.gather(*coros)
    def run_tasks(self, callables):
        # callables must return coroutines
        return asyncio.run(self.run_tasks_async([fn() for fn in callables]))
"""

ORCHESTRATOR = """
from stratagem import ExecutionStrategy

class UserQuestionOrchestrator:
    def __init__(self, execution_strategy: ExecutionStrategy):
        self.execution_strategy = execution_strategy
    def ask_all(self, user_callables):
        return self.execution_strategy.run_tasks(user_callables)
"""

TYPED = """
from stratagem import ExecutionStrategy
from typing import Callable, List, Any

class SequentialStrategy(ExecutionStrategy):
    def run_tasks(self, callables: List[Callable[[], Any]]) -> List[Any]:
        return [fn() for fn in callables]

from concurrent.futures import ThreadPoolExecutor
class ThreadPoolStrategy(ExecutionStrategy):
    def __init__(self, max_workers=8):
        self.max_workers = max_workers
    def run_tasks(self, callables: List[Callable[[], Any]]) -> List[Any]:
        with ThreadPoolExecutor(max_workers=self.max_workers) as executor:
            futures = [executor.submit(fn) for fn in callables]
            return [f.result() for f in futures]
"""


def run_sample(text):
    """Run a sample as a module would be; give its names."""
    names = {"__name__": "sample"}
    exec(compile(text, "<sample>", "exec"), names)
    return SimpleNamespace(**names)


WRITTEN = run_sample(STRATEGIES)
ORCHESTRATORS = [run_sample(ORCHESTRATOR).UserQuestionOrchestrator, UserQuestionOrchestrator]
MAKERS = {
    f"{whose}-{name}": partial(getattr(module, name), **options)
    for whose, module in [("written", WRITTEN), ("shipped", stratagem_builtin)]
    for name, options in [
        ("SequentialStrategy", {}),
        ("ThreadPoolStrategy", {}),
        ("ThreadPoolStrategy", {"max_workers": 8}),
        ("ProcessPoolStrategy", {"max_workers": 2}),
        ("AsyncStrategy", {}),
    ]
}
PLAIN = [name for name in MAKERS if "Async" not in name or "shipped" in name]


class Agent:
    def __init__(self, name):
        self.name = name

    def ask(self, question):
        return f"{self.name}: {question}"

    async def ask_async(self, question):
        await asyncio.sleep(0)
        return self.ask(question)


class TooShyError(Exception):
    pass


@pytest.fixture(params=ORCHESTRATORS, ids=["written", "shipped"])
def orchestrator_type(request):
    return request.param


@pytest.mark.parametrize("name", PLAIN)
def test_each_strategy_runs_callables_in_their_order(name):
    """Written as in the document or shipped, a strategy gives results in the order of callables."""
    with MAKERS[name]() as strategy:
        results = strategy.run_tasks([partial(tasks.square, number) for number in range(10)])

    assert results == [number * number for number in range(10)]


@pytest.mark.parametrize("name", [name for name in MAKERS if "Async" in name])
def test_the_async_strategies_run_callables_that_return_coroutines(name):
    """Written as in the document or shipped, coroutines are awaited and come in order."""
    with MAKERS[name]() as strategy:
        results = strategy.run_tasks([partial(tasks.square_async, n) for n in range(10)])

    assert results == [number * number for number in range(10)]


@pytest.mark.parametrize("name", [name for name in MAKERS if "Async" in name])
def test_coroutines_can_be_given_to_the_async_form(name):
    """``run_tasks_async`` takes coroutines that exist already, as the document has it."""
    with MAKERS[name]() as strategy:

        async def caller():
            return await strategy.run_tasks_async([tasks.square_async(n) for n in range(10)])

        results = asyncio.run(caller())

    assert results == [number * number for number in range(10)]


def test_the_shipped_strategies_take_the_documents_arguments():
    """The constructor arguments of the document mean what they mean there."""
    threads = stratagem_builtin.ThreadPoolStrategy(max_workers=3)
    processes = stratagem_builtin.ProcessPoolStrategy(max_workers=4)

    assert (threads.max_workers, processes.max_workers) == (3, 4)
    assert stratagem_builtin.ThreadPoolStrategy().max_workers == 8
    assert isinstance(threads, ExecutionStrategy)
    assert isinstance(processes, ExecutionStrategy)


def test_the_typed_samples_run():
    """The first samples, with their annotations, derive strategies that run."""
    sample = run_sample(TYPED)
    calls = [partial(tasks.square, number) for number in range(5)]

    assert sample.SequentialStrategy().run_tasks(calls) == [0, 1, 4, 9, 16]
    assert sample.ThreadPoolStrategy(max_workers=2).run_tasks(calls) == [0, 1, 4, 9, 16]


def test_the_base_class_cannot_be_made_without_run_tasks():
    """The base class is abstract, as in the document."""
    with pytest.raises(TypeError, match="run_tasks"):
        ExecutionStrategy()


@pytest.mark.parametrize("name", PLAIN)
def test_the_orchestrator_asks_by_any_strategy(orchestrator_type, name):
    """Either orchestrator, given any of the strategies, returns all answers in order."""
    with MAKERS[name]() as strategy:
        orchestrator = orchestrator_type(execution_strategy=strategy)
        answers = orchestrator.ask_all([partial(tasks.square, number) for number in range(6)])

    assert answers == [0, 1, 4, 9, 16, 25]


def test_the_usage_example_runs(orchestrator_type):
    """The example of the document, asking one agent, runs with the default strategy it shows."""
    agents, question = [Agent("Ada")], "why?"
    with stratagem_builtin.ThreadPoolStrategy(max_workers=8) as default_strategy:
        orchestrator = orchestrator_type(execution_strategy=default_strategy)
        results = orchestrator.ask_all([lambda: agent.ask(question) for agent in agents])

    assert results == ["Ada: why?"]


def test_the_async_usage_example_runs(orchestrator_type):
    """The example for agents that are async runs with the strategy it shows."""
    agents, question = [Agent("Ada")], "why?"
    with stratagem_builtin.AsyncStrategy() as async_strategy:
        orchestrator = orchestrator_type(execution_strategy=async_strategy)
        results = orchestrator.ask_all([lambda: agent.ask_async(question) for agent in agents])

    assert results == ["Ada: why?"]


def shy(number):
    if number == 2:
        raise TooShyError(number)
    return number


async def shy_async(number):
    await asyncio.sleep(0)
    return shy(number)


@pytest.mark.parametrize("name", ["written-SequentialStrategy", "shipped-SequentialStrategy"])
def test_sequential_exceptions_propagate_immediately(name):
    """One after another, the first exception is raised and nothing behind it begins."""
    begun = []

    def work(number):
        begun.append(number)
        return shy(number)

    with MAKERS[name]() as strategy, pytest.raises(TooShyError) as caught:
        strategy.run_tasks([partial(work, number) for number in range(6)])

    assert (caught.value.args, begun) == ((2,), [0, 1, 2])


def test_exceptions_of_threads_can_be_caught_one_by_one():
    """The loop that the document shows and ``return_exceptions`` give the same results."""
    callables = [partial(shy, number) for number in range(4)]
    with ThreadPoolExecutor() as executor:
        futures = [executor.submit(fn) for fn in callables]
        results = []
        for f in futures:
            try:
                results.append(f.result())
            except Exception as e:
                results.append(e)
    with stratagem_builtin.ThreadPoolStrategy() as strategy:
        ours = strategy.run_tasks(callables, return_exceptions=True)

    assert repr(results) == repr(ours) == "[0, 1, TooShyError(2), 3]"


def test_exceptions_of_coroutines_can_be_collected():
    """The method that the document shows and ``return_exceptions`` give the same results."""

    class Collecting(WRITTEN.AsyncStrategy):
        async def run_tasks_async(self, coros):
            return await asyncio.gather(*coros, return_exceptions=True)

    written = Collecting().run_tasks([partial(shy_async, number) for number in range(4)])
    with stratagem_builtin.AsyncStrategy() as strategy:

        async def caller():
            coros = [shy_async(number) for number in range(4)]
            return await strategy.run_tasks_async(coros, return_exceptions=True)

        ours = asyncio.run(caller())

    assert repr(written) == repr(ours) == "[0, 1, TooShyError(2), 3]"


@pytest.mark.parametrize("name", [name for name in PLAIN if "written" in name])
def test_a_strategy_written_as_in_the_document_serves_the_engine(name):
    """The engine gets outcomes, errors and order right over a strategy of ``run_tasks`` alone."""
    with Engine() as engine, MAKERS[name]() as strategy:
        report = engine.map(tasks.fail_at_three, range(5), strategy=strategy)

    assert [(o.index, o.status, o.value) for o in report] == [
        (0, "ok", 0),
        (1, "ok", 1),
        (2, "ok", 2),
        (3, "error", None),
        (4, "ok", 4),
    ]
    assert isinstance(report[3].error, KeyError)


def test_a_strategy_that_awaits_what_it_is_given_loses_the_batch_and_says_so():
    """The document's async strategy wants coroutines; what it can't run is lost, not the run."""
    with Engine() as engine, WRITTEN.AsyncStrategy() as strategy:
        report = engine.map(tasks.square, range(3), strategy=strategy)

    assert [outcome.status for outcome in report] == ["lost"] * 3
    assert isinstance(report[0].error, TaskLostError)
    assert "AsyncStrategy.run_tasks raised TypeError" in str(report[0].error)
