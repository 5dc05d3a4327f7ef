"""The watch over runs: what it says of one that stands still, when, and how often."""

import itertools
import logging
import threading
import time

import pytest

import stratagem
from stratagem import Budget, Engine, RunningTask, Snapshot, Status
from stratagem.watch import Watch, what_is_waited_for

pytestmark = pytest.mark.once

PATIENCE = 20.0
SOON = 0.2


@pytest.fixture
def stalls(caplog):
    """Give the warnings of the watch so far."""
    caplog.set_level(logging.WARNING, "stratagem")

    def said():
        return [r.getMessage() for r in caplog.records if r.name == "stratagem.watch"]

    return said


def until(condition):
    """Wait for what another thread brings about; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("spec", ["threads(max_workers=2)", "asyncio(max_concurrency=2)"])
def test_a_run_in_which_nothing_ends_names_what_runs(engine, stalls, spec):
    """The warning has the keys of the oldest tasks, their ages, and how many wait."""

    def work(key):
        until(stalls)
        return key

    report = engine.map(work, ["a", "b", "c"], key=str, strategy=spec, stall_after=SOON)

    (said, *_) = stalls()
    assert said.startswith("run_stalled: nothing has succeeded for 0.")
    assert f"in run {report.run_id} (" in said
    assert "2 running: " in said
    assert "'a' for 0." in said
    assert "'b' for 0." in said
    assert said.endswith("; 1 waiting; 0 done")


def test_a_sequential_run_is_watched_too(engine, stalls):
    """What the main thread is in is said by the thread of the watch."""
    engine.map(lambda _: until(stalls), [0], strategy="sequential", stall_after=SOON)

    assert "1 taken and not known to run" in stalls()[0]


def test_failures_that_dominate_are_named(engine, stalls):
    """A run whose tasks all fail says how many, and with what."""

    def work(number):
        if number < 3:
            return number
        if len(stalls()) == 0:
            time.sleep(0.01)
            raise ConnectionError("no route")
        return number

    engine.map(work, range(500), strategy="threads(max_workers=2)", stall_after=SOON, log="error")

    said = stalls()[0]
    assert "failed, most recently with ConnectionError" in said
    assert "the last " in said


def test_an_input_that_gives_nothing_is_named(engine, stalls):
    """A run that waits for its input says so."""

    def items():
        yield 1
        until(stalls)

    engine.map(abs, items(), strategy="threads", stall_after=SOON)

    assert "its input gives nothing; 1 done" in stalls()[0]


def test_a_consumer_that_does_not_read_is_named(engine, stalls):
    """A stream that nobody reads says so."""
    with engine.stream_map(abs, itertools.count(), strategy="threads", stall_after=SOON) as stream:
        next(stream)
        until(stalls)

    assert "nobody reads its outcomes" in stalls()[0]


def test_a_budget_that_has_no_place_is_named(engine, stalls):
    """Tasks that run may do nothing but wait for a call that others make."""
    budget = Budget("a budget that stalls", 1)

    def work(_item):
        with budget:
            until(stalls)

    engine.map(work, range(3), strategy="threads(max_workers=3)", stall_after=SOON)

    assert "2 calls wait for the budget 'a budget that stalls'; 3 running: " in stalls()[0]


def test_it_is_said_once_for_each_doubling(engine, stalls):
    """A run that stands still for long is no flood."""
    release = threading.Timer(20 * SOON, lambda: None)
    release.start()

    engine.map(lambda _: release.join(), [0], strategy="threads", stall_after=SOON)

    ages = [float(said.split(" s in run")[0].split()[-1]) for said in stalls()]
    assert 2 <= len(ages) <= 5
    assert all(later >= 1.5 * earlier for earlier, later in itertools.pairwise(ages))


def test_what_nested_runs_achieve_counts(engine, stalls):
    """A parent that waits for children that succeed stands still for nobody."""

    def child():
        time.sleep(SOON / 4)

    def parent(_item):
        stratagem.nested([child] * 20)

    engine.map(parent, [0], strategy="threads(max_workers=1)", stall_after=SOON * 3)

    assert stalls() == []


@pytest.mark.parametrize("stall_after", [None, 60.0])
def test_a_run_may_do_without(engine, stalls, stall_after):
    """None turns it off, and a long threshold is not reached."""
    engine.map(lambda _: time.sleep(2 * SOON), [0], strategy="threads", stall_after=stall_after)

    assert stalls() == []


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "60", True])
def test_a_threshold_that_is_none_is_refused(engine, wrong):
    """What can be no number of seconds is an error that names the option."""
    with pytest.raises(ValueError, match="stall_after must be a number of seconds over 0"):
        engine.map(abs, [1], stall_after=wrong)


def watchers():
    return [thread for thread in threading.enumerate() if thread.name == "stratagem-watch"]


def test_runs_share_one_thread_that_ends_after_them():
    """However many runs there are, and soon after the last of them."""
    before = len(watchers())
    seen = []
    with Engine("threads") as engine:
        for _ in range(20):
            engine.map(lambda _: seen.append(len(watchers())), [0])

        until(lambda: len(watchers()) <= before)

    assert max(seen) <= before + 1


def test_the_thread_ends_with_its_engine():
    """A closed engine leaves none behind, and watches again when it is used again."""
    engine, there = Engine("sequential"), []
    for _ in range(2):
        engine.map(abs, [1])
        there.append(engine._watch._thread is not None)
        engine.close()
        there.append(engine._watch._thread is not None)

    assert there == [True, False, True, False]


def test_a_dropped_run_is_forgotten():
    """The watch holds no run, so one that is dropped can go."""

    class Still:
        succeeded = failed = 0
        last_error = ""

        def snapshot(self):
            return Snapshot("id")

    watch, run = Watch(), Still()
    watch.add(run, 0.01)
    del run

    until(lambda: watch._thread is None)


@pytest.mark.parametrize(
    ("snapshot", "failed", "said"),
    [
        (Snapshot("r"), 0, "0 done"),
        (Snapshot("r", counts={Status.ERROR: 37}), 37, "the last 37 tasks failed, most recently with E; 37 done"),
        (Snapshot("r", counts={Status.ERROR: 1}), 1, "the last task failed, most recently with E; 1 done"),
        (Snapshot("r", stopped="interrupted"), 0, "it is being stopped (interrupted); 0 done"),
        (
            Snapshot("r", running=tuple(RunningTask(str(n), "", 9.0 - n) for n in range(4))),
            0,
            "4 running: '0' for 9 s, '1' for 8 s, '2' for 7 s, ...; 0 done",
        ),
        (
            Snapshot("r", nested=(Snapshot("s", running=(RunningTask("0/1", "", 2.5),)),)),
            0,
            "1 nested: '0/1' for 2.5 s; 0 done",
        ),
        (Snapshot("r", total=5, taken=2), 0, "2 taken and not known to run; 3 waiting; 0 done"),
    ],
)  # fmt: skip
def test_what_is_waited_for_is_said_in_few_words(snapshot, failed, said):
    """Each reason there may be is named, the likeliest first."""
    assert what_is_waited_for(snapshot, failed, "E", {}) == said
