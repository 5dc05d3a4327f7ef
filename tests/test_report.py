"""The report of a run: outcomes in input order, values, errors, and why it ended."""

import pickle
from collections import Counter

import pytest

from stratagem import (
    Engine,
    HookFailure,
    Outcome,
    Report,
    Status,
    StratagemError,
    StreamingStrategy,
    TaskCancelledError,
    TaskExitError,
    invoke,
)
from stratagem_builtin import ThreadPoolStrategy


def ok(index, value):
    return Outcome(index, f"k{index}", "fn", Status.OK, value)


def bad(index, error, status=Status.ERROR):
    return Outcome(index, f"k{index}", "fn", status, error=error)


def report_of(*outcomes, stopped=None, failures=()):
    return Report(outcomes, Counter(o.status for o in outcomes), 1.25, stopped, failures, "run-1")


def test_a_report_is_the_sequence_of_its_outcomes():
    """Length, iteration, positions from both ends, slices and membership go by the outcomes."""
    outcomes = [ok(n, n * 10) for n in range(5)]
    report = report_of(*outcomes)

    assert (len(report), list(report), list(reversed(report))) == (5, outcomes, outcomes[::-1])
    assert (report[0], report[-1], list(report[1:4:2])) == (
        outcomes[0],
        outcomes[4],
        outcomes[1:4:2],
    )
    assert (outcomes[3] in report, report.index(outcomes[3])) == (True, 3)
    with pytest.raises(IndexError):
        _ = report[5]


def test_values_are_in_input_order():
    """When every task succeeded the values are theirs, in order."""
    report = report_of(*[ok(n, n * 10) for n in range(4)])

    assert (report.values, report.ok, report.errors, report.failures) == (
        [0, 10, 20, 30],
        True,
        [],
        [],
    )
    report.raise_for_errors()


def test_errors_are_those_of_all_that_failed():
    """Every failed outcome is a failure with its error, of whatever status."""
    late, lost = TimeoutError("late"), RuntimeError("lost")
    report = report_of(ok(0, 1), bad(1, late, Status.TIMEOUT), ok(2, 3), bad(3, lost, Status.LOST))

    assert report.errors == [late, lost]
    assert [outcome.index for outcome in report.failures] == [1, 3]
    assert (report.ok, report.partial) == (False, False)
    assert report.counts == {"ok": 2, "timeout": 1, "lost": 1}


@pytest.mark.parametrize("read", [lambda report: report.values, Report.raise_for_errors])
def test_failures_are_raised_as_a_group_whose_leaves_name_their_tasks(read):
    """Asking for values, or to raise, gives all errors at once, each with a note of its task."""
    gone, late = KeyError("gone"), TimeoutError("late")
    report = report_of(ok(0, 1), bad(1, gone), bad(2, late, Status.TIMEOUT))

    with pytest.raises(ExceptionGroup) as caught:
        read(report)

    assert str(caught.value) == "2 of 3 tasks failed (2 sub-exceptions)"
    assert caught.value.exceptions == (gone, late)
    assert [error.__notes__ for error in (gone, late)] == [
        ["task 'k1' (fn), error"],
        ["task 'k2' (fn), timeout"],
    ]


def test_raising_again_notes_no_task_twice():
    """However often the group is raised, each leaf carries one note."""
    error = KeyError("gone")
    report = report_of(bad(0, error))

    for _ in range(3):
        with pytest.raises(ExceptionGroup):
            report.raise_for_errors()

    assert error.__notes__ == ["task 'k0' (fn), error"]


def test_what_would_end_the_program_is_raised_as_an_error_that_holds_it():
    """A task's SystemExit is a TaskExitError in the group."""
    report = report_of(bad(0, SystemExit(3)))

    with pytest.raises(ExceptionGroup) as caught:
        report.raise_for_errors()

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, TaskExitError)
    assert (str(leaf), leaf.__notes__) == (
        "task 'k0' raised SystemExit: 3",
        ["task 'k0' (fn), error"],
    )


def test_a_report_that_was_stopped_is_partial_and_not_ok():
    """A run that ended before its input did says so, even if all that ran went well."""
    report = report_of(ok(0, 1), stopped="closed")

    assert (report.partial, report.ok, report.stopped, report.values) == (
        True,
        False,
        "closed",
        [1],
    )


def test_a_report_that_does_not_hold_all_outcomes_gives_no_values():
    """Values of a stream that kept less than all would be wrong, and are refused."""
    report = Report([ok(0, 1)], Counter({Status.OK: 3}), 1.0)

    with pytest.raises(StratagemError) as caught:
        _ = report.values

    assert str(caught.value) == (
        "this stream handed out 3 outcomes and kept 1; "
        "use `run` or `map` for a report that holds all"
    )
    assert (report.complete, len(report)) == (False, 1)


@pytest.mark.parametrize(
    ("report", "shown"),
    [
        (report_of(), "<Report empty, 1.250 s>"),
        (report_of(ok(0, 1), ok(1, 2)), "<Report ok=2, 1.250 s>"),
        (
            report_of(ok(0, 1), bad(1, KeyError()), stopped="max_errors"),
            "<Report ok=1, error=1, 1.250 s, stopped='max_errors'>",
        ),
    ],
)
def test_a_report_shows_its_counts(report, shown):
    """The repr is one line of counts, whatever the outcomes hold."""
    assert repr(report) == shown


def test_a_report_pickles():
    """A report comes through pickle with all that it says."""
    failure = HookFailure("plugin", "stratagem_after_task", KeyError("x"), 2)
    report = report_of(ok(0, [1]), stopped="closed", failures=(failure,))

    other = pickle.loads(pickle.dumps(report))

    assert list(other) == list(report)
    assert (repr(other), other.run_id, other.hook_failures[0].count) == (repr(report), "run-1", 2)


def test_the_report_of_a_run_is_in_input_order_whenever_tasks_ended():
    """Outcomes that came out of order stand in order."""
    with (
        Engine() as engine,
        engine.stream_map(lambda n: n, range(500), strategy="threads") as stream,
    ):
        came = [outcome.index for outcome in stream]

    assert sorted(came) == list(range(500))
    assert [outcome.index for outcome in stream.report] == list(range(500))
    assert [outcome.value for outcome in stream.report] == list(range(500))


def test_the_first_failure_ends_a_run_that_raises_and_carries_its_report():
    """With ``on_error="raise"`` the original exception comes with what was done till then."""
    done = []

    def work(number):
        done.append(number)
        if number == 2:
            raise KeyError("gone")
        return number

    with Engine() as engine, pytest.raises(KeyError) as caught:
        engine.map(work, range(10), strategy="sequential", on_error="raise")

    report = caught.value.report
    assert done == [0, 1, 2]
    assert [outcome.status for outcome in report] == ["ok", "ok", "error"]
    assert (report.stopped, report.partial) == ("on_error", True)


def test_a_task_that_raises_stop_iteration_is_a_failure_like_any_other():
    """The exception that ends loops does not pass for the end of the run."""

    def work():
        raise StopIteration("no more")

    with Engine() as engine, pytest.raises(RuntimeError) as caught:
        engine.run([work, int], strategy="sequential", on_error="raise")

    assert repr(caught.value.__cause__) == "StopIteration('no more')"
    assert [outcome.status for outcome in caught.value.report] == ["error"]


def test_so_many_errors_stop_a_run():
    """The run ends when ``max_errors`` tasks have failed, and says why."""
    with Engine() as engine:
        report = engine.map(int, ["1", "x", "2", "y", "3"], strategy="sequential", max_errors=2)

    assert [outcome.status for outcome in report] == ["ok", "error", "ok", "error"]
    assert (report.stopped, report.ok) == ("max_errors", False)


def test_a_stream_that_is_closed_reports_what_was_done():
    """A stream that is left early says that it was closed, and holds what it came to."""
    with Engine() as engine, engine.stream_map(str, range(5), strategy="sequential") as stream:
        first = next(stream)

    assert (list(stream.report), stream.report.stopped) == ([first], "closed")
    assert not any(isinstance(error, TaskCancelledError) for error in stream.report.errors)


class EndsEarly(StreamingStrategy):
    """Take three tasks, answer for two, and end."""

    def stream(self, tasks):
        taken = [tasks.take() for _ in range(3)]
        yield from map(invoke, taken[:2])


@pytest.mark.parametrize("items", [list, iter])
def test_a_run_whose_strategy_ends_before_its_input_is_partial(items):
    """Tasks that nobody took make a report partial; one that got no answer is lost."""
    with Engine() as engine:
        report = engine.map(str, items(range(5)), strategy=EndsEarly())

    assert [outcome.status for outcome in report] == ["ok", "ok", "lost"]
    assert (report.stopped, report.partial, report.ok) == ("strategy_ended", True, False)


def test_a_run_whose_strategy_is_closed_meanwhile_is_partial():
    """A strategy that is closed in the midst of a run does not end it as a success."""
    strategy = ThreadPoolStrategy(max_workers=2)

    def work(number):
        if number == 20:
            strategy.close()
        return number

    with Engine() as engine:
        report = engine.map(work, range(10_000), strategy=strategy)

    assert 20 < len(report) < 10_000
    assert (report.stopped, report.ok) == ("strategy_ended", False)
