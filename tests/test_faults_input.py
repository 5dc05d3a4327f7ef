"""Faults of the input and of the consumer, under every strategy and start method."""

import asyncio
import gc
import itertools
import sys
from functools import cache, partial

import cloudpickle
import pytest

from stratagem import DuplicateKeyError, Engine, nested
from stratagem.testing import leftovers, take_stock, tasks
from stratagem.testing.conformance.answers import statuses

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test


WORDS = [
    "sequential",
    "threads(max_workers={0})",
    "asyncio(max_concurrency={0})",
    "processes(max_workers={0}, start_method='forkserver')",
]
OTHER_STARTS = [
    "processes(max_workers={0}, start_method='fork')",
    "processes(max_workers={0}, start_method='spawn')",
]


def specs(limit):
    """Give a spec of each strategy for so many tasks at once."""
    return [
        *(spec.format(limit) for spec in WORDS),
        *(pytest.param(spec.format(limit), marks=pytest.mark.once) for spec in OTHER_STARTS),
    ]


SPECS, ALONE = specs(2), specs(1)


@pytest.fixture(scope="module")
def shared():
    """Make an engine that keeps its strategies warm from fault to fault."""
    with Engine() as engine:
        yield engine


@pytest.mark.parametrize("spec", SPECS)
def test_an_input_that_raises_costs_nothing_that_came_before(shared, spec):
    """All tasks taken by then have their outcome, failed ones too, and the error carries them."""

    def breaking():
        yield from range(12)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more") as caught:
        shared.map(tasks.fail_at_three, breaking(), strategy=spec)

    assert statuses(caught.value.report) == ["ok"] * 3 + ["error"] + ["ok"] * 8
    assert caught.value.report.stopped == "input_failed"


@pytest.mark.parametrize("spec", SPECS)
def test_a_key_given_twice_in_a_sequence_is_refused_before_anything_runs(shared, spec, tmp_path):
    """Nothing has run when the error names both positions."""
    ran = tmp_path / "ran"
    with pytest.raises(DuplicateKeyError) as caught:
        shared.map(partial(tasks.square_and_note, ran), [1, 2, 3, 2], key=str, strategy=spec)

    assert (caught.value.key, caught.value.positions) == ("2", (1, 3))
    assert not ran.exists()


@pytest.mark.parametrize("spec", SPECS)
def test_a_key_given_twice_in_a_generator_ends_the_run_there(shared, spec):
    """What came before is done and in the report of the error."""
    with pytest.raises(DuplicateKeyError) as caught:
        shared.map(tasks.square, iter([1, 2, 3, 2, 5]), key=str, strategy=spec)

    assert (caught.value.key, caught.value.positions) == ("2", (1, 3))
    assert caught.value.report.values == [1, 4, 9]


def leave_by_break(stream):
    for _ in stream:
        break
    stream.close()


def leave_by_error(stream):
    with pytest.raises(ZeroDivisionError), stream:
        for _ in stream:
            raise ZeroDivisionError


def leave_by_dropping(stream):
    next(stream)
    del stream
    gc.collect()


@cache
def open_what_python_keeps(spec):
    """Use a strategy once: the first use starts a fork server or a resource tracker for good."""
    with Engine(spec) as engine:
        engine.map(tasks.square, range(1))


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, leave_by_dropping])
@pytest.mark.parametrize("spec", SPECS)
def test_a_consumer_that_goes_away_leaves_nothing_running(spec, leave):
    """However it leaves an endless stream, the strategy serves on, and nothing is left of it."""
    open_what_python_keeps(spec)
    stock = take_stock()
    with Engine(spec) as engine:
        # The stream is handed over, so that nobody else holds it.
        leave(engine.stream_map(tasks.square, itertools.count()))
        after = engine.map(tasks.square, range(5)).values

    assert after == [i * i for i in range(5)]
    assert leftovers(stock) == []


def leaves(depth):
    return 1 if depth == 0 else sum(nested([partial(leaves, depth - 1)] * 2))


@pytest.mark.parametrize("spec", ALONE)
def test_nested_runs_do_not_deadlock_on_a_single_slot(spec):
    """A tree of four levels comes to its end where only one task runs at once."""
    with Engine(spec) as engine:
        report = engine.map(leaves, [4, 4])

    assert report.values == [16, 16]


@pytest.mark.parametrize("spec", SPECS)
def test_a_failure_inside_a_running_loop_costs_only_itself(shared, spec):
    """The sync form, called where a loop runs, gives the same outcomes as anywhere."""

    async def notebook():
        return shared.map(tasks.fail_at_three_async, range(8), strategy=spec)

    assert statuses(asyncio.run(notebook())) == ["ok"] * 3 + ["error"] + ["ok"] * 4
