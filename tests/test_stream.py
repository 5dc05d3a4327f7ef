"""Streams: reading, leaving, dropping and closing them, from wherever one stands."""

import gc
import itertools
import sys
import threading
import time
import weakref
from functools import partial

import pytest

from stratagem import Engine, StratagemError, StreamingStrategy, hookimpl, invoke
from stratagem.testing import Event, EventRecorder

PATIENCE = 20.0
SHARED = ["sequential", "threads(max_workers=2)", "asyncio(max_concurrency=2)"]
CONCURRENT = SHARED[1:]


def double(number):
    return 2 * number


def until(condition):
    """Wait for what another thread brings about; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("spec", SHARED)
def test_a_stream_gives_each_outcome_once_and_then_ends(engine, spec):
    """Outcomes come as they end; a stream that is over stays over, and its report is whole."""
    stream = engine.stream_map(double, range(20), strategy=spec)
    outcomes = list(stream)

    assert sorted(outcome.value for outcome in outcomes) == [2 * n for n in range(20)]
    assert list(stream) == []
    assert stream.report.values == [2 * n for n in range(20)]
    assert (stream.report.partial, stream.report.complete) == (False, True)


def test_nothing_runs_before_the_stream_is_read(engine):
    """Making a stream announces nothing and calls nothing."""
    recorder, begun = EventRecorder(), []
    with Engine(plugins=[recorder]) as own:
        stream = own.stream_map(begun.append, range(3), strategy="threads")
        before = (list(recorder.events), list(begun))
        stream.close()

    assert before == ([], [])
    assert (recorder.events, begun) == ([], [])
    assert (len(stream.report), stream.report.stopped) == (0, "closed")


def test_the_report_of_a_stream_being_read_is_of_what_is_known(engine):
    """Midway the report holds what was handed out; afterwards the rest is there too."""
    with engine.stream_map(double, range(5), strategy="sequential") as stream:
        for _ in range(2):
            next(stream)
        midway = stream.report
        rest = list(stream)

    assert [outcome.value for outcome in midway] == [0, 2]
    assert len(rest) == 3
    assert stream.report.values == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("spec", SHARED)
@pytest.mark.parametrize(("keep", "kept"), [(5, 5), (4, 0)])
def test_a_long_stream_keeps_counts_and_no_outcomes(engine, monkeypatch, spec, keep, kept):
    """A stream of more outcomes than its bound holds none that it handed out, and says so."""
    monkeypatch.setattr("stratagem.engine.KEEP", keep)
    with engine.stream_map(double, range(5), strategy=spec) as stream:
        outcomes = list(stream)

    report = stream.report
    assert (len(outcomes), len(report), report.counts.total()) == (5, kept, 5)
    assert (report.ok, report.complete) == (True, kept == 5)
    if kept == 0:
        with pytest.raises(StratagemError, match="handed out 5 outcomes and kept 0; use `run`"):
            _ = report.values


def test_run_and_map_keep_all(engine, monkeypatch):
    """The bound of streams is none for the forms that give nothing but a report."""
    monkeypatch.setattr("stratagem.engine.KEEP", 2)
    mapped = engine.map(double, range(5), strategy="sequential")
    ran = engine.run([partial(double, number) for number in range(5)], strategy="sequential")

    assert mapped.values == ran.values == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("spec", SHARED)
def test_a_stream_left_early_keeps_what_was_not_handed_out(spec):
    """What had ended and was never read stands in the report, with its true status."""
    recorder = EventRecorder()
    with Engine(spec, plugins=[recorder]) as engine:
        with engine.stream_map(double, range(1_000)) as stream:
            first = next(stream)
        report = stream.report

    assert first.value == 2 * first.index
    assert [outcome.key for outcome in report] == sorted(recorder.keys, key=int)
    assert {outcome.status for outcome in report} <= {"ok", "cancelled"}
    assert (report.stopped, report.partial) == ("closed", True)
    assert all(outcome.value == 2 * outcome.index for outcome in report if outcome.ok)


@pytest.mark.parametrize("spec", [*CONCURRENT, "retry(threads(max_workers=2))"])
def test_another_thread_may_close_while_the_consumer_is_blocked(engine, spec):
    """The consumer's loop ends, all that was announced is settled, and no more begins."""
    begun, release = threading.Semaphore(0), threading.Event()

    def block(_item):
        begun.release()
        return release.wait(PATIENCE)

    stream = engine.stream_map(block, itertools.count(), strategy=spec)
    read = []
    consumer = threading.Thread(target=lambda: read.extend(stream))
    consumer.start()
    for _ in range(2):
        assert begun.acquire(timeout=PATIENCE)
    closer = threading.Thread(target=stream.close)
    closer.start()
    until(lambda: stream.report.stopped == "closed")
    release.set()
    closer.join(PATIENCE)
    consumer.join(PATIENCE)

    assert not consumer.is_alive()
    assert not closer.is_alive()
    assert read == []
    assert [outcome.value for outcome in stream.report] == [True, True]
    assert not begun.acquire(blocking=False)


@pytest.mark.parametrize("spec", CONCURRENT)
def test_a_task_that_does_not_end_holds_a_close_no_longer_than_the_grace(spec):
    """After the grace a running sync task is abandoned, reported as cancelled, and let be."""
    begun, release = threading.Event(), threading.Event()

    def block(_item):
        begun.set()
        return release.wait(PATIENCE)

    with Engine(spec.replace(")", ", grace=0.05)")) as engine:
        with engine.stream_map(block, itertools.count()) as stream:
            consumer = threading.Thread(target=lambda: list(stream))
            consumer.start()
            assert begun.wait(PATIENCE)
        consumer.join(PATIENCE)
        outcomes = list(stream.report)
        release.set()

    assert {outcome.status for outcome in outcomes} == {"cancelled"}
    assert 1 <= len(outcomes) <= 2
    begun_ones = [outcome for outcome in outcomes if outcome.started_at]
    assert begun_ones
    assert all("did not end in time" in str(outcome.error) for outcome in begun_ones)


class Closing:
    """Close the stream from inside a hook, at the third task."""

    def __init__(self, hook):
        self.hook = hook
        self.stream = None
        self.recorder = EventRecorder()

    def close_at_third(self, hook, task):
        if hook == self.hook and task.index == 2:
            self.stream.close()

    @hookimpl
    def stratagem_before_task(self, task):
        self.close_at_third("before", task)

    @hookimpl
    def stratagem_after_task(self, task):
        self.close_at_third("after", task)


@pytest.mark.parametrize("spec", SHARED)
@pytest.mark.parametrize("hook", ["before", "after"])
def test_a_listener_may_close_the_run(spec, hook):
    """A close from a hook ends the run; all that was announced hears its end, once."""
    closing, recorder = Closing(hook), EventRecorder()
    with Engine(spec, plugins=[closing, recorder]) as engine:
        closing.stream = engine.stream_map(double, itertools.count())
        list(closing.stream)

    report = closing.stream.report
    assert report.stopped == "closed"
    assert 2 <= len(report) < 2_000
    ended = [event.key for event in recorder.events if event.hook == "after_task"]
    assert sorted(ended) == sorted(recorder.keys) == sorted(outcome.key for outcome in report)
    assert recorder.events[-1] == Event("after_run")


@pytest.mark.parametrize("spec", [*SHARED, "processes(max_workers=2)"])
@pytest.mark.parametrize("form", ["endless", "sequence"])
def test_dropping_a_stream_stops_its_run(spec, form):
    """A stream that nobody holds any more takes no further task, and is forgotten."""
    taken = []
    items = itertools.count() if form == "endless" else range(10**9)

    class Noting:
        @hookimpl
        def stratagem_before_task(self, task):
            taken.append(task.index)

    with Engine(spec, plugins=[Noting()]) as engine:
        stream = engine.stream_map(abs, items)
        next(stream)
        gone = weakref.ref(stream)
        del stream
        until(lambda: gc.collect() >= 0 and gone() is None)
        seen = len(taken)
        until(lambda: not [t for t in threading.enumerate() if t.name == "stratagem-reader"])
        after = engine.map(abs, [-7]).values

    assert len(taken) <= seen + 3
    assert after == [7]


@pytest.mark.parametrize("spec", SHARED)
def test_what_one_loop_leaves_another_one_gets(engine, spec):
    """Loops over one stream, each left early, share its outcomes: none twice, none lost."""
    stream = engine.stream_map(double, range(500), strategy=spec)
    parts = []
    while part := [outcome.index for outcome in itertools.islice(stream, 7)]:
        parts.append(part)

    assert sorted(itertools.chain(*parts)) == list(range(500))
    assert {len(part) for part in parts} <= {7, 500 % 7}
    assert stream.report.complete


@pytest.mark.parametrize("keep", [10_000, 20])
@pytest.mark.parametrize("spec", CONCURRENT)
def test_what_was_ready_when_a_stream_was_left_is_in_its_report(engine, monkeypatch, spec, keep):
    """Every task that ran is counted, and every outcome that nobody got is kept."""
    monkeypatch.setattr("stratagem.engine.KEEP", keep)
    ran = []
    with engine.stream_map(ran.append, range(5_000), strategy=spec) as stream:
        got = [outcome.index for outcome in itertools.islice(stream, 100)]
        until(lambda: len(ran) > 200)

    report = stream.report
    reported = [outcome.index for outcome in report if outcome.ok]
    assert report.counts["ok"] == len(ran)
    assert len(set(reported)) == len(reported)
    assert set(reported) | set(got) == set(ran)
    assert (set(reported) >= set(got)) == (keep > 100)


def test_what_ended_before_a_failure_is_handed_out_before_it(engine):
    """A failure that ends a run is raised behind the outcomes that were there first."""

    def fail_at_three_hundred(number):
        if number == 300:
            raise ValueError(number)
        return number

    got = []
    stream = engine.stream_map(
        fail_at_three_hundred, range(1_000), strategy="threads(max_workers=1)", on_error="raise"
    )
    with pytest.raises(ValueError, match="300"):
        got.extend(outcome.value for outcome in stream if outcome.ok)
    assert got == list(range(300))


@pytest.mark.parametrize("spec", SHARED)
def test_several_threads_may_read_one_stream(engine, spec):
    """Readers share the outcomes between them, none twice, none lost."""
    stream = engine.stream_map(double, range(500), strategy=spec)
    read = [[] for _ in range(4)]
    threads = [threading.Thread(target=part.extend, args=(stream,)) for part in read]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(o.value for part in read for o in part) == [2 * n for n in range(500)]


def test_an_exception_in_the_consumers_loop_closes_the_stream(engine):
    """Leaving the ``with`` block by an exception ends the run and lets the exception out."""
    with (
        pytest.raises(ZeroDivisionError),
        engine.stream_map(double, itertools.count(), strategy="threads") as stream,
    ):
        for outcome in stream:
            _ = 1 / outcome.value

    assert stream.report.stopped == "closed"
    assert stream.report[0].value == 0


def test_closing_twice_and_after_the_end_changes_nothing(engine):
    """A stream that was read to its end is whole, however often it is closed."""
    stream = engine.stream_map(double, range(3), strategy="threads")
    values = stream.values()
    stream.close()
    stream.close()

    assert (values, stream.report.stopped, stream.report.partial) == ([0, 2, 4], None, False)


def test_an_input_that_raises_while_nobody_reads_is_raised_where_it_is_read(engine):
    """The error of the input waits for the consumer, behind the outcomes before it."""

    def items():
        yield 1
        raise OSError("the line is dead")

    with engine.stream_map(double, items(), strategy="threads") as stream:
        first = next(stream)
        with pytest.raises(OSError, match="the line is dead") as caught:
            next(stream)

    assert first.value == 2
    assert [outcome.value for outcome in caught.value.report] == [2]
    assert list(stream) == []


def test_what_a_failing_strategy_could_not_hand_on_stands_in_the_report():
    """An error that carries outcomes costs none of them: each is settled as what it is."""

    class Failing(StreamingStrategy):
        def stream(self, tasks):
            first, second, _third = (tasks.take() for _ in range(3))
            yield invoke(first)
            error = OSError("no more")
            error.outcomes = [invoke(second), "something else"]
            raise error

    recorder = EventRecorder()
    with (
        Engine(plugins=[recorder]) as engine,
        pytest.raises(OSError, match="no more") as caught,
    ):
        engine.map(str, range(3), strategy=Failing())

    report = caught.value.report
    assert [o.status for o in report] == ["ok", "ok", "cancelled"]
    assert report[1].value == "1"
    assert recorder.of_task("1") == [Event("before_task", "1"), Event("after_task", "1", "ok")]


def test_threads_that_read_one_stream_get_each_outcome_once(engine):
    """However they take turns, the report counts each, and none is given twice."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            stream = engine.stream_map(abs, range(2_000), strategy="threads(max_workers=2)")
            read = [[] for _ in range(4)]
            readers = [
                threading.Thread(target=lambda mine=mine: mine.extend(stream), daemon=True)
                for mine in read
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(60)
            taken = sorted(outcome.index for mine in read for outcome in mine)
            assert taken == list(range(2_000))
            assert stream.report.counts.total() == len(stream.report) == 2_000
    finally:
        sys.setswitchinterval(interval)


def test_what_was_read_ahead_is_not_handed_out(engine):
    """The report holds what was handed out as long as that alone is no more than is kept."""
    with engine.stream_map(abs, range(200), strategy="threads(max_workers=2)", keep=100) as stream:
        seen = [next(stream).index for _ in range(70)]

    assert set(seen) <= {outcome.index for outcome in stream.report}


class FailingRows(list):
    """Raise where the item at 40 is asked for."""

    def __getitem__(self, index):
        if index == 40:
            raise OSError("row 40 is broken")
        return super().__getitem__(index)


@pytest.mark.parametrize("spec", ["sequential", "threads", "processes", "asyncio"])
def test_a_list_whose_item_raises_gives_those_before_it(engine, spec):
    """However many a strategy takes at once."""
    with pytest.raises(OSError, match="row 40") as caught:
        engine.map(abs, FailingRows(range(60)), strategy=spec)

    assert [outcome.index for outcome in caught.value.report] == list(range(40))
