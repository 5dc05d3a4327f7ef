"""The strategy ``journal``: what is on disk when, and what comes back of it."""

import itertools
import os
import signal
import sqlite3
import threading
from functools import partial
from pathlib import Path

import attrs
import pytest

from stratagem import (
    Engine,
    Expansion,
    RemoteError,
    StrategyOptionError,
    TransportError,
    hookimpl,
    nested,
)
from stratagem.testing import Event, EventRecorder
from stratagem.testing.waiting import lines, note
from stratagem_builtin import SequentialStrategy, ThreadPoolStrategy
from stratagem_journal import (
    JournalDamagedError,
    JournalError,
    JournalInUseError,
    JournalMismatchError,
    JournalStrategy,
)
from stratagem_journal.reading import open_reader
from stratagem_journal.session import Session

SPECS = ["sequential", "threads", "asyncio", "processes(max_workers=2)"]


@pytest.fixture
def path(tmp_path):
    """Name a journal that is not there yet."""
    return tmp_path / "run.db"


@pytest.fixture
def ledger(tmp_path):
    """Name the file in which tasks note that they ran."""
    return tmp_path / "ledger"


def rows(path):
    reader = open_reader(path)
    try:
        return list(reader.all_rows())
    finally:
        reader.close()


def square(ledger, number):
    note(ledger, number)
    return number * number


def fail_at_three(ledger, number):
    note(ledger, number)
    if number == 3:
        raise KeyError("three")
    return number


def ran(ledger):
    return sorted(int(line) for line in lines(ledger))


@pytest.mark.parametrize("spec", SPECS)
def test_what_was_recorded_comes_back_and_does_not_run(engine, path, ledger, spec):
    """A second run under the same journal gives the same values, marked, and runs nothing."""
    task = partial(square, ledger)
    first = engine.map(task, range(20), strategy=spec, journal=path)
    second = engine.map(task, range(20), strategy="threads", journal=path)

    assert first.values == second.values == [number * number for number in range(20)]
    assert {outcome.recalled for outcome in first} == {False}
    assert {outcome.recalled for outcome in second} == {True}
    assert ran(ledger) == list(range(20))
    recalled = [(o.index, o.key, o.name, o.worker, o.seconds, o.started_at) for o in second]
    assert recalled == [(o.index, o.key, o.name, o.worker, o.seconds, o.started_at) for o in first]


def test_that_a_task_begins_is_on_disk_before_it_does(engine, path):
    """From inside a task its own record is there, with no end."""

    def look(number):
        return next((r.status, r.begun) for r in rows(path) if r.key == str(number))

    report = engine.map(look, range(5), journal=path)

    assert report.values == [("doubt", 1)] * 5


@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=2)"])
def test_an_outcome_is_on_disk_before_anybody_hears_of_it(path, spec):
    """A hook and the iterator find it there."""
    heard = []

    class Listener:
        @hookimpl
        def stratagem_after_task(self, task, outcome):
            heard.append((task.key, {r.key: r.status for r in rows(path)}[task.key]))

    with (
        Engine(plugins=[Listener()]) as engine,
        engine.stream_map(str, range(5), strategy=spec, journal=path) as stream,
    ):
        read = [({r.key: r.value for r in rows(path)})[o.key] for o in stream]

    assert sorted(heard) == [(str(number), "ok") for number in range(5)]
    assert sorted(read) == [b'"%d"' % number for number in range(5)]


def test_a_recalled_task_is_announced_and_ends(path):
    """Listeners hear of it as of any other, so that counts and progress are whole."""
    recorder = EventRecorder()
    with Engine(plugins=[recorder]) as engine:
        engine.map(str, [1], journal=path)
        engine.map(str, [1], journal=path)

    one_run = [
        Event("before_run"),
        Event("before_task", "0"),
        Event("after_task", "0", "ok"),
        Event("after_run"),
    ]
    assert recorder.events == one_run * 2


@pytest.mark.parametrize("key", [str, lambda number: f"question {number}"])
def test_only_what_is_new_runs(engine, path, ledger, key):
    """With keys, rows may be added and moved, and another strategy may go on."""
    task = partial(square, ledger)
    engine.map(task, range(5), strategy="asyncio", journal=path, key=key)
    report = engine.map(task, [9, *range(5)][::-1], strategy="threads", journal=path, key=key)

    assert report.values == [16, 9, 4, 1, 0, 81]
    assert [outcome.recalled for outcome in report] == [True] * 5 + [False]
    assert ran(ledger) == [0, 1, 2, 3, 4, 9]


def test_failures_run_again(engine, path, ledger):
    """What failed is no result: its task runs in the next run, and the journal counts both."""
    task = partial(fail_at_three, ledger)
    first = engine.map(task, range(5), journal=path)
    second = engine.map(task, range(5), journal=path)

    assert [o.status for o in first] == [o.status for o in second]
    assert ran(ledger) == [0, 1, 2, 3, 3, 4]
    assert [(r.begun, r.attempts_in_all) for r in rows(path)] == [
        (1, 1), (1, 1), (1, 1), (2, 2), (1, 1)
    ]  # fmt: skip


def test_failures_come_back_if_asked_to(engine, path, ledger):
    """With ``retry_failed=False`` a failure is what it was: its type by name, and its message."""
    task = partial(fail_at_three, ledger)
    spec = f"journal(threads, path={str(path)!r}, retry_failed=False)"
    engine.map(task, range(5), strategy=spec)
    report = engine.map(task, range(5), strategy=spec)

    failure = report[3]
    assert (failure.status, failure.recalled, type(failure.error)) == ("error", True, RemoteError)
    assert (failure.error.type_name, failure.error.message) == ("KeyError", "'three'")
    assert "builtins.LookupError" in failure.error.bases
    assert len(ran(ledger)) == 5


@pytest.mark.parametrize("changed", [["a", "x", "c"], ["x"], ["b", "a"]])
def test_a_changed_input_is_named_and_ends_the_run(engine, path, changed):
    """Nothing runs for it, nothing is overwritten, and the message says what can be done."""
    engine.map(str.upper, ["a", "b", "c"], journal=path)
    before = rows(path)

    with pytest.raises(JournalMismatchError, match="has another input") as caught:
        engine.map(str.upper, changed, journal=path)

    known = dict(enumerate("abc"))
    assert caught.value.keys == tuple(
        str(at) for at, item in enumerate(changed) if known[at] != item
    )
    assert caught.value.report.stopped == "strategy_failed"
    assert rows(path) == before


def test_another_function_under_known_keys_ends_the_run(engine, path):
    """What one function gave is no answer of another."""
    engine.map(str.upper, ["a"], journal=path)

    with pytest.raises(JournalMismatchError, match=r"calls 'str.lower' and called 'str.upper'"):
        engine.map(str.lower, ["a"], journal=path)


@pytest.mark.parametrize(("on_mismatch", "values"), [("rerun", ["A", "X"]), ("reuse", ["A", "B"])])
def test_what_a_changed_input_means_can_be_said(engine, path, on_mismatch, values):
    """Its task runs again, or what was recorded stands."""
    engine.map(str.upper, ["a", "b"], journal=path)
    spec = f"journal(threads, path={str(path)!r}, on_mismatch={on_mismatch!r})"
    report = engine.map(str.upper, ["a", "x"], strategy=spec)

    assert report.values == values


class Agent:
    """Be an object that nothing tells from another one."""

    def ask(self):
        return "answer"


def test_inputs_that_cannot_be_compared_need_keys(engine, path):
    """Without a key of its own nobody knows whether a task is the same; with one it is."""
    calls = [Agent().ask, Agent().ask]
    engine.run(calls, journal=path)

    with pytest.raises(JournalMismatchError, match="no key of its own: give `key=`"):
        engine.run(calls, journal=path)

    keyed = path.with_name("keyed.db")
    for _ in range(2):
        report = engine.run(calls, journal=keyed, key=lambda call: f"agent {calls.index(call)}")
    assert [outcome.recalled for outcome in report] == [True, True]


def test_an_input_that_its_task_changes_is_compared_as_it_was(engine, path):
    """The fingerprint is taken before the task may touch what it is given."""

    def empty(item):
        item.clear()

    engine.map(empty, [[1], [2]], journal=path)
    report = engine.map(empty, [[1], [2]], journal=path)

    assert [outcome.recalled for outcome in report] == [True, True]


CRASH = """
import os, signal, sys
from stratagem import map
from stratagem.testing.waiting import note

def work(number):
    note({ledger!r}, number)
    if number == 3 and len(sys.argv) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number

if __name__ == "__main__":
    report = map(work, range(8), strategy="journal({spec}, path={path!r}, in_doubt='{policy}')")
    print([(o.index, o.status.value, o.recalled) for o in report if not o.ok or o.recalled])
"""


@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=1)"])
def test_only_what_may_have_begun_is_in_doubt(start_script, path, ledger, spec):
    """Records run ahead of the tasks, and are told from those of tasks that were handed out."""
    script = CRASH.format(ledger=str(ledger), path=str(path), spec=spec, policy="rerun")
    assert start_script(script, "crash").wait(60) == -signal.SIGKILL
    reader = open_reader(path)

    assert reader.in_doubt() == ["3"]
    assert [(row.key, row.status) for row in reader.all_rows()] == [
        ("0", "ok"), ("1", "ok"), ("2", "ok"), ("3", "doubt")
    ]  # fmt: skip
    reader.close()


@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=1)"])
def test_a_task_in_doubt_is_listed_and_runs_again(start_script, run_script, path, ledger, spec):
    """After a crash in a task the journal names it, and a resumed run does it again."""
    script = CRASH.format(ledger=str(ledger), path=str(path), spec=spec, policy="rerun")
    assert start_script(script, "crash").wait(60) == -signal.SIGKILL
    reader = open_reader(path)
    doubtful = reader.in_doubt()
    reader.close()

    recalled = eval(run_script(script))

    assert "3" in doubtful
    assert set(doubtful) <= {"0", "1", "2", "3", "4", "5"}
    assert all(is_recalled for _, _, is_recalled in recalled)
    again = [number for number in ran(ledger) if ran(ledger).count(number) > 1]
    assert set(map(str, again)) <= set(doubtful)
    assert 3 in again


def test_a_task_in_doubt_is_lost_if_asked_to(start_script, run_script, path, ledger):
    """With ``in_doubt="fail"`` no task begins twice, however often the run is resumed."""
    script = CRASH.format(ledger=str(ledger), path=str(path), spec="sequential", policy="fail")
    assert start_script(script, "crash").wait(60) == -signal.SIGKILL
    for _ in range(2):
        known = eval(run_script(script))

        assert (3, "lost", True) in known
        assert ran(ledger).count(3) == 1


def test_a_run_left_early_goes_on_later(engine, path, ledger):
    """What was not begun is not in doubt; the file is free as soon as the stream is closed."""
    task = partial(square, ledger)
    with engine.stream_map(task, itertools.count(), strategy="sequential", journal=path) as stream:
        list(zip(range(3), stream, strict=False))
    statuses = {row.status for row in rows(path)}
    done = len(ran(ledger))
    report = engine.map(task, range(done + 2), journal=path)

    assert statuses <= {"ok", "waiting", "cancelled"}
    assert sum(outcome.recalled for outcome in report) == done
    assert ran(ledger) == list(range(done + 2))


def test_a_stream_that_is_never_read_lets_go_of_the_file(engine, path):
    """Closed or dropped, it leaves no lock."""
    engine.stream_map(str, [1], journal=path).close()
    stream = engine.stream_map(str, [1], journal=path)
    del stream

    assert engine.map(str, [1], journal=path).values == ["1"]


def test_a_value_that_cannot_be_written_is_refused_by_its_path(engine, path):
    """The task fails, says where, and shows what it had; its neighbours are well."""
    report = engine.map(lambda n: {"answer": [n, object()] if n else n}, [0, 1], journal=path)

    error = report[1].error
    assert (report[0].status, report[1].status) == ("ok", "error")
    assert isinstance(error, TransportError)
    assert (error.stage, "$.answer[1] is of type 'object'" in str(error)) == ("encode_result", True)
    assert error.shown.startswith("{'answer': [1, <object")


def test_a_value_that_is_too_large_is_refused(engine, path):
    """The message says how large it is and how large it may be."""
    spec = f"journal(threads, path={str(path)!r}, max_value_bytes=10)"
    report = engine.map(lambda n: "x" * n, [3, 30], strategy=spec)

    assert report[0].ok
    assert "takes 32 bytes, more than max_value_bytes=10" in str(report[1].error)


def test_children_are_part_of_their_task(engine, path):
    """What a task starts is not written down; its own value is."""
    report = engine.map(lambda n: nested([lambda: n, lambda: n + 1]), [1, 5], journal=path)

    assert report.values == [[1, 2], [5, 6]]
    assert [row.key for row in rows(path)] == ["0", "1"]
    assert engine.map(lambda n: nested([lambda: n, lambda: n + 1]), [1, 5], journal=path)[
        1
    ].recalled


@pytest.mark.parametrize(
    ("spec", "begun"),
    [
        ("journal(retry({inner}, attempts=3, wait_initial=0, wait_jitter=0), path={path!r})", 1),
        ("retry(journal({inner}, path={path!r}), attempts=3, wait_initial=0, wait_jitter=0)", 3),
    ],
)
def test_retry_inside_and_outside(engine, path, ledger, spec, begun):
    """Inside, all attempts are one record; outside, each is written before it begins."""
    task = partial(fail_at_three, ledger)
    strategy = spec.format(inner="threads", path=str(path))
    report = engine.map(task, range(5), strategy=strategy)

    row = rows(path)[3]
    assert report[3].attempts == 3
    assert (row.status, row.begun, row.attempts) == ("error", begun, 3)
    assert ran(ledger) == [0, 1, 2, 3, 3, 3, 4]


def test_streams_that_are_open_at_once_are_told_apart(path):
    """By the order in which they were opened; so a pipeline of two is resumed as it was."""

    def pipeline(engine, strategy):
        first = engine.stream_map(partial(pow, 2), range(5), strategy=strategy)
        second = engine.stream_map(str, (o.value for o in first), strategy=strategy)
        return sorted((o.value, o.recalled) for o in second)

    with Engine() as engine, JournalStrategy(SequentialStrategy(), path) as strategy:
        once, again = pipeline(engine, strategy), pipeline(engine, strategy)

    assert once == [(value, False) for value in ["1", "16", "2", "4", "8"]]
    assert again == [(value, True) for value, _ in once]
    assert [(row.batch, row.key) for row in rows(path)] == [
        (batch, str(key)) for batch in (0, 1) for key in range(5)
    ]


def test_a_run_inside_a_task_has_its_own_journal(engine, path):
    """A task of a run without one may start a run that has one."""

    def work(number):
        inner = path.with_name(f"inner-{number}.db")
        with Engine() as own:
            return [o.recalled for o in own.map(str, range(2), journal=inner)]

    assert engine.map(work, range(2)).values == [[False, False]] * 2
    assert engine.map(work, range(2)).values == [[True, True]] * 2


def test_a_stream_that_follows_one_of_several_finds_what_that_left(path):
    """Also while another one keeps the file open."""
    with Engine() as engine, JournalStrategy(SequentialStrategy(), path) as strategy:
        first = engine.stream_map(str, range(3), strategy=strategy)
        second = engine.stream_map(int, range(3), strategy=strategy)
        assert [o.recalled for o in first] == [False] * 3
        again = engine.map(str, range(3), strategy=strategy)
        assert [o.recalled for o in second] == [False] * 3

    assert [outcome.recalled for outcome in again] == [True] * 3


def test_an_expansion_is_resumed_with_what_it_led_to(engine, path, ledger):
    """A step that leads to further items leads to them again without running."""

    def step(number):
        note(ledger, number)
        return Expansion(number, [number * 2, number * 2 + 1] if number < 4 else [])

    for recalled in (False, True):
        stream = engine.expand(step, [1], journal=path)
        assert sorted((o.value, o.recalled) for o in stream) == [(n, recalled) for n in range(1, 8)]
    assert ran(ledger) == list(range(1, 8))


def test_a_second_run_is_refused_while_one_writes(engine, path):
    """The message says who writes it."""
    with engine.stream_map(str, range(3), journal=path) as stream:
        next(stream)

        with pytest.raises(
            JournalInUseError, match=f"process {os.getpid()} on .*, since 20.*, writes it"
        ):
            engine.map(str, range(3), journal=path)


def test_what_resume_asks_for_is_seen_to(engine, path):
    """True needs a file, False a fresh one, and without a journal it means nothing."""
    with pytest.raises(JournalError, match="nothing to resume"):
        engine.map(str, [1], journal=path, resume=True)
    engine.map(str, [1], journal=path, resume=False)
    with pytest.raises(JournalError, match="holds a run already"):
        engine.map(str, [1], journal=path, resume=False)
    assert engine.map(str, [1], journal=path, resume=True)[0].recalled
    with pytest.raises(ValueError, match="resume needs a journal"):
        engine.map(str, [1], resume=True)


@pytest.mark.parametrize(
    "options",
    [
        "path=''",
        "path=3",
        "path='x', durability='off'",
        "path='x', in_doubt='maybe'",
        "path='x', on_mismatch=True",
        "path='x', retry_failed=2",
        "path='x', max_value_bytes=0",
        "path='x', max_value_bytes=1.5",
        "path='x', codec='pickle'",
        "path='x', resume=3",
    ],
)
def test_options_that_make_no_sense_are_refused(engine, options):
    """A wrong option is an error that names it, when the strategy is made."""
    name = options.rpartition(", ")[2].partition("=")[0]

    with pytest.raises(StrategyOptionError, match=name):
        engine.strategy(f"journal(threads, {options})")


def test_a_wrapper_answers_for_its_inner_strategy(path):
    """What the inner strategy can do, it can; closing closes it."""
    with JournalStrategy(ThreadPoolStrategy(), path) as strategy:
        assert (strategy.shares_memory, strategy.enforces_timeouts, strategy.can_kill) == (
            True,
            True,
            False,
        )


@pytest.mark.parametrize("durability", ["full", "process"])
def test_both_durabilities_keep_what_they_are_given(engine, path, durability):
    """What differs is what a crash of the machine takes."""
    spec = f"journal(threads, path={str(path)!r}, durability={durability!r})"
    engine.map(str, range(3), strategy=spec)

    assert [o.recalled for o in engine.map(str, range(3), strategy=spec)] == [True] * 3


@pytest.mark.parametrize("key", ["\ud800", "a\x00b", "x" * 512, "../../etc"])
def test_keys_are_text_and_nothing_else(engine, path, key):
    """What is no Unicode text is refused by name; everything else is kept as it is."""
    if key == "\ud800":
        with pytest.raises(JournalError, match="is no Unicode text"):
            engine.map(str, [1], journal=path, key=lambda _: key)
        return
    engine.map(str, [1], journal=path, key=lambda _: key)

    assert [row.key for row in rows(path)] == [key]


def test_a_changed_record_is_never_given_out(engine, path):
    """Each record has a digest of its own: what was changed by hand or by a disk ends the run."""
    engine.map(str, range(3), journal=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE task SET value = ? WHERE key = '1'", (b'"2"',))
    connection.close()

    with pytest.raises(JournalDamagedError, match="task '1' was changed"):
        engine.map(str, range(3), journal=path)


SECRET = "canary-5d1b0c"


def test_a_secret_is_nowhere_but_in_its_own_value(engine, path, caplog):
    """An argument is kept as a digest; a result and a message stand in their columns alone."""
    caplog.set_level("DEBUG")

    def work(item):
        local = item + SECRET
        if item.endswith("fail"):
            raise ValueError(f"{SECRET} in a message")
        return local

    items = [f"{SECRET} argument", f"{SECRET} fail"]
    engine.map(work, items, strategy="threads", journal=path, log="debug")

    kept = [
        (row.key, field)
        for row in rows(path)
        for field, content in row._asdict().items()
        if SECRET in str(content)
    ]
    assert kept == [("0", "value"), ("1", "error")]
    assert SECRET not in caplog.text
    assert Path(path).read_bytes().count(SECRET.encode()) == 3


def test_nothing_is_left_behind(engine, path):
    """After a run there is the file and its lock: no log, no thread of the journal."""
    engine.map(str, range(50), journal=path)

    assert sorted(one.name for one in path.parent.iterdir()) == ["run.db", "run.db.lock"]
    assert not [t for t in threading.enumerate() if t.name.startswith("stratagem-journal")]


def test_attempts_are_counted_once_each(engine, path):
    """Also where a wrapper outside has each of them recorded by itself."""
    spec = f"retry(journal(threads, path={str(path)!r}), attempts=3, wait_initial=0, wait_jitter=0)"
    engine.map(int, ["x"], strategy=spec)
    engine.map(int, ["x"], strategy=spec)

    (row,) = rows(path)
    assert (row.begun, row.attempts, row.attempts_in_all) == (6, 3, 6)


def test_a_task_that_waits_to_be_tried_again_holds_nobody_up(engine, path):
    """Inside a journal as little as without one."""
    order = []
    gate = threading.Event()

    def work(number):
        order.append(number)
        if number == 0 and order.count(0) == 1:
            raise ValueError(number)
        if number == 19:
            gate.set()
        return gate.is_set() if number == 0 else number

    spec = (
        f"journal(retry(threads(max_workers=1), attempts=2, wait_initial=1.0), path={str(path)!r})"
    )
    report = engine.map(work, range(20), strategy=spec)

    assert report[0].value is True
    assert order == [*range(20), 0]


def test_streams_of_several_tasks_are_refused(path):
    """Nobody could tell them apart in the next run; and none passes without being written down."""
    both = threading.Barrier(2, timeout=30)

    def work(_number):
        with Engine() as own, own.stream_map(str, range(3), strategy=strategy) as stream:
            next(stream)
            both.wait()
            both.wait()

    def refused(_number):
        both.wait()
        try:
            with Engine() as own:
                own.map(str, range(3), strategy=strategy)
        finally:
            both.wait()

    with JournalStrategy(SequentialStrategy(), path) as strategy, Engine() as engine:
        report = engine.run([partial(work, 0), partial(refused, 1)], strategy="threads")

    assert report[0].ok
    assert isinstance(report[1].error, JournalInUseError)
    assert "give each a journal of its own" in str(report[1].error)


def test_stages_inside_a_task_are_told_apart(path):
    """One task may have several streams open, as the main program may."""

    def pipeline():
        with Engine() as own:
            first = own.stream_map(partial(pow, 2), range(5), strategy=strategy)
            second = own.stream_map(str, (o.value for o in first), strategy=strategy)
            return sorted((o.value, o.recalled) for o in second)

    with JournalStrategy(SequentialStrategy(), path) as strategy, Engine() as engine:
        once, again = (engine.run([pipeline], strategy="threads").values[0] for _ in range(2))

    assert once == [(value, False) for value in ["1", "16", "2", "4", "8"]]
    assert again == [(value, True) for value, _ in once]


def test_what_is_cut_off_by_an_interrupt_is_in_doubt(start_script, path, ledger):
    """A task that was begun and cancelled may have done its work: it is listed, and can be kept."""
    script = """
import asyncio, sys
from stratagem import map
from stratagem.testing.waiting import note
async def work(number):
    note(sys.argv[2], number)
    if number == 2 and len(sys.argv) > 3:
        print("there", flush=True)
        await asyncio.sleep(60)
    return number
if __name__ == "__main__":
    spec = "journal(asyncio(max_concurrency=1), path=%r, in_doubt='fail')" % sys.argv[1]
    report = map(work, range(4), strategy=spec)
    print([(o.key, o.status.value) for o in report if not o.ok])
"""
    process = start_script(script, path, ledger, "hold")
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    reader = open_reader(path)
    doubtful = reader.in_doubt()
    reader.close()
    again, told = start_script(script, path, ledger).communicate(timeout=60)

    assert doubtful == ["2"]
    assert "tasks_in_doubt: 1 tasks had begun" in told
    assert eval(again) == [("2", "lost")]
    assert ran(ledger) == [0, 1, 2, 3]


def test_a_lost_task_does_not_run_again_where_none_may_run_twice(engine, path, ledger):
    """Its worker died with it, so nobody knows whether it was done."""
    task = partial(die_at_three, ledger)
    spec = f"journal(processes(max_workers=1), path={str(path)!r}, in_doubt='fail')"
    engine.map(task, range(5), strategy=spec)
    report = engine.map(task, range(5), strategy=spec)

    assert (report[3].status, report[3].recalled) == ("lost", True)
    assert ran(ledger) == list(range(5))


def die_at_three(ledger, number):
    note(ledger, number)
    if number == 3:
        os._exit(3)
    return number


def test_keyed_tasks_with_objects_of_their_own_may_be_moved(engine, path):
    """What counts of such an object is its type, whichever task comes first."""

    def calls(names):
        return [partial(name_of, Agent(), name) for name in names]

    def key(call):
        return call.args[1]

    engine.run(calls("abc"), journal=path, key=key)

    assert [o.recalled for o in engine.run(calls("cba"), journal=path, key=key)] == [True] * 3
    assert [o.recalled for o in engine.run(calls("b"), journal=path, key=key)] == [True]


def name_of(_agent, name):
    return name


def test_an_object_that_is_called_is_part_of_the_input(engine, path):
    """Settings that it holds count, as those that are bound by ``partial`` do."""
    engine.map(Asker("small"), ["a"], journal=path)

    assert engine.map(Asker("small"), ["a"], journal=path)[0].recalled
    with pytest.raises(JournalMismatchError, match="another input"):
        engine.map(Asker("large"), ["a"], journal=path)


@attrs.frozen
class Asker:
    model: str

    def __call__(self, question):
        return self.model + question


def test_a_strategy_that_does_not_say_how_many_it_runs_is_not_held_back(engine, path):
    """As many may be out as it takes; how many that were is on disk before they begin."""
    both = threading.Barrier(40, timeout=30)

    def work(number):
        both.wait()
        return number

    class Many(ThreadPoolStrategy):
        max_workers = None

        def __init__(self):
            self.inner = ThreadPoolStrategy(max_workers=40)

        def stream(self, tasks):
            return self.inner.stream(tasks)

        def close(self):
            self.inner.close()

    with JournalStrategy(Many(), path) as strategy:
        report = engine.map(work, range(40), strategy=strategy)

    assert report.ok


@pytest.mark.parametrize("where", ["pump", "writer"])
def test_a_stream_may_be_collected_by_a_thread_of_its_own(path, monkeypatch, where):
    """A thread that finds it as garbage, in the midst of its work, does not wait for itself."""
    doomed, ready, gone = [], threading.Event(), threading.Event()
    committed = Session.committed

    def collect():
        if doomed:
            doomed.clear()
            gone.set()

    def commit_and_collect(self, records):
        committed(self, records)
        if where == "writer":
            collect()

    class Collector(ThreadPoolStrategy):
        def stream(self, tasks):
            for outcome in super().stream(tasks):
                if where == "pump":
                    collect()
                yield outcome

    monkeypatch.setattr(Session, "committed", commit_and_collect)
    with Engine() as engine, JournalStrategy(Collector(), path) as strategy:
        stream = engine.stream_map(
            lambda number: number and ready.wait(30), range(9), strategy=strategy
        )
        next(stream)
        doomed.append(stream)
        del stream
        ready.set()

        assert gone.wait(30)
        assert engine.map(str, range(3), strategy="threads", journal=path.with_name("b.db")).ok


def test_secrets_in_messages_are_masked(engine, path, monkeypatch):
    """What the environment calls a secret, and what has the shape of a key, is not written."""
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    shaped = "sk-" + "a1B2c3D4" * 5

    def work(number):
        raise ValueError(f"asked with {SECRET} and {shaped} for {number}")

    engine.map(work, [1], journal=path)

    assert b"asked with [redacted] and [redacted] for 1" in rows(path)[0].error
    assert SECRET.encode() not in path.read_bytes()
    assert shaped.encode() not in path.read_bytes()


def test_a_stream_that_is_dropped_while_another_opens_does_no_harm(path):
    """A garbage collection may close one stream in the midst of opening another."""
    with Engine() as engine, JournalStrategy(SequentialStrategy(), path) as strategy:
        stream = engine.stream_map(str, range(3), strategy=strategy)
        with strategy._lock:
            del stream
        assert engine.map(str, range(3), strategy=strategy).values == ["0", "1", "2"]
