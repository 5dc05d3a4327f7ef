"""``ray`` in both modes on one Ray: who is hurt by what, and who is not."""

import logging
import os
import signal
import threading
import time
from collections import Counter
from functools import partial

import pytest
import ray_jobs as jobs

import stratagem
from stratagem import (
    ClusterError,
    StrategyOptionError,
    TaskLostError,
    TaskTimeoutError,
    TransportError,
)
from stratagem.testing import failures, mischief, tasks
from stratagem.testing.waiting import is_running, lines, until

SLOTS = {"actors": 4, "tasks": 2}
SPECS = {
    "actors": "ray(n_workers=2, max_concurrency=2, on_lost='isolate', grace=0.5)",
    "tasks": "ray(mode='tasks', on_lost='isolate', grace=0.5)",
}
FAILING = {"actors": "ray(n_workers=2, max_concurrency=2)", "tasks": "ray(mode='tasks')"}


@pytest.fixture(scope="module", params=SPECS)
def mode(request):
    return request.param


@pytest.fixture
def strategy(mode, lend):
    return lend(SPECS[mode])


@pytest.fixture
def slots(mode):
    return SLOTS[mode]


def overlap(intervals):
    """Give the most intervals that have a moment in common."""
    moments = sorted([(began, 1) for began, _ in intervals] + [(end, -1) for _, end in intervals])
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


BAD = {
    "unpicklable": tasks.return_lock,
    "exit": failures.exit_interpreter,
    "recursion": failures.recurse_for_ever,
    "interrupt": failures.raise_keyboard_interrupt,
    "odd error": failures.raise_two_arguments,
}


def batch_with_poisons(ran, total=3_000):
    """Make so many calls, two of which end their process, and five of which fail as can be."""
    calls = [partial(jobs.noted, ran, number) for number in range(total)]
    poisons = {total // 4: mischief.leave_with_three, total // 2: mischief.kill_own_process}
    bad = dict(enumerate(BAD.values(), start=50))
    for number, further in (poisons | bad).items():
        calls[number] = partial(jobs.noted_then, ran, number, further)
    return calls, {str(number) for number in poisons}, {str(number) for number in bad}


def test_only_poisons_are_lost_among_three_thousand_that_may_run_twice(strategy, slots, tmp_path):
    """With ``isolate`` all others succeed; what ran twice was running then, and says so."""
    calls, poisons, bad = batch_with_poisons(tmp_path / "ran")
    report = stratagem.run(calls, strategy=strategy, log="error")
    times = Counter(lines(tmp_path / "ran"))

    assert {o.key for o in report if o.status == "lost"} == poisons
    assert {o.key for o in report if o.status == "error"} == bad
    assert len(report) == report.counts.total() == len(calls)
    assert set(times) == {o.key for o in report}
    assert {key for key, count in times.items() if count > 1} <= {
        o.key for o in report if o.attempts > 1
    }
    assert len([o for o in report if o.attempts > 1]) <= slots


def test_nothing_begins_twice_by_default(mode, lend, tmp_path):
    """A death loses what was running in that process, and nothing else that it had."""
    calls, poisons, bad = batch_with_poisons(tmp_path / "ran", 600)
    report = stratagem.run(calls, strategy=lend(FAILING[mode]), log="error")
    times = Counter(lines(tmp_path / "ran"))
    lost = {o.key for o in report if o.status == "lost"}

    assert max(times.values()) == 1
    assert {o.key for o in report if o.ok} | bad <= set(times)
    assert poisons <= lost
    assert len(lost) <= len(poisons) * (2 if mode == "actors" else 1)
    assert {o.attempts for o in report} == {1}


def test_a_process_that_is_killed_costs_nothing_that_may_run_again(strategy, tmp_path):
    """What it was running is run again, alone, and the batch is whole."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    calls = [partial(mischief.wait, begun, gate), *(partial(tasks.square, i) for i in range(40))]
    with stratagem.stream(calls, strategy=strategy, log="error") as stream:
        reader = threading.Thread(target=list, args=(stream,))
        reader.start()
        until(lambda: lines(begun))
        os.kill(int(lines(begun)[0]), signal.SIGKILL)
        until(lambda: len(lines(begun)) > 1)
        gate.touch()
        reader.join()

    assert stream.report.counts == {"ok": 41}
    assert stream.report[0].attempts == 2
    assert len(set(lines(begun))) == 2


def test_a_task_whose_process_is_killed_is_lost_by_default(mode, lend, tmp_path):
    """The error says that its process died; a task that has not begun is none of its business."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    calls = [partial(mischief.wait, begun, gate)]
    with stratagem.stream(calls, strategy=lend(FAILING[mode]), log="error") as stream:
        reader = threading.Thread(target=list, args=(stream,))
        reader.start()
        until(lambda: lines(begun))
        os.kill(int(lines(begun)[0]), signal.SIGKILL)
        reader.join()

    assert stream.report.counts == {"lost": 1}
    assert isinstance(stream.report[0].error, TaskLostError)
    assert "died" in str(stream.report[0].error)


def test_a_task_that_hangs_is_killed_at_its_timeout(strategy, tmp_path):
    """It runs in a process of its own, which ends then."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    calls = [partial(jobs.wait_unless_first, begun, gate, number) for number in range(20)]
    report = stratagem.run(calls, strategy=strategy, timeout=1.5, log="error")

    assert report.counts == {"ok": 19, "timeout": 1}
    assert isinstance(report[0].error, TaskTimeoutError)
    assert not report[0].error.abandoned
    until(lambda: not is_running(int(lines(begun)[0])))


def test_what_waits_behind_a_long_task_goes_elsewhere(strategy, tmp_path):
    """A task of a batch that takes long holds up none of those that came with it."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    stratagem.map(tasks.square, range(500), strategy=strategy)
    calls = [partial(tasks.square, number) for number in range(600)]
    calls[300] = partial(mischief.wait, begun, gate)
    order = []
    with stratagem.stream(calls, strategy=strategy) as stream:
        for outcome in stream:
            order.append(outcome.key)
            if len(order) == 599:
                gate.touch()

    assert order[-1] == "300"
    assert stream.report.counts == {"ok": 600}


def test_children_share_the_slots(strategy, slots):
    """Parents that wait lend theirs: all are used, and never more."""
    report = stratagem.map(jobs.ask_naps, [6] * 6, strategy=strategy)
    intervals = [(began, end) for naps in report.values for _, began, end in naps]

    assert [[number for number, *_ in naps] for naps in report.values] == [list(range(6))] * 6
    assert overlap(intervals) == slots


def test_coroutines_wait_for_two_nested_runs_at_once(strategy, slots):
    """A slot is lent while any part of a task waits, on a full cluster too."""
    report = stratagem.map(jobs.ask_naps_twice, [3] * 4, strategy=strategy)
    intervals = [(began, end) for naps in report.values for _, began, end in naps]

    assert [len(naps) for naps in report.values] == [6] * 4
    assert overlap(intervals) <= slots


def test_children_of_a_thread_of_a_task_find_a_slot(lend):
    """It is not the thread that Ray gave to the task, and the only slot is lent all the same."""
    strategy = lend("ray(n_workers=1, max_concurrency=1, grace=0.5)")

    assert stratagem.map(jobs.ask_in_thread, [3, 4], strategy=strategy).values == [9, 16]


def test_a_budget_holds_over_all_processes(strategy):
    """One place, however many ask for it: whoever owns the run keeps the count."""
    budget = stratagem.Budget("tests of ray", 1)
    report = stratagem.map(partial(jobs.nap_within, budget), range(6), strategy=strategy)
    intervals = [(began, end) for _, began, end in report.values]

    assert overlap(intervals) == 1


def test_a_module_that_workers_lack_is_named_or_travels(mode, lend, tmp_path, monkeypatch):
    """The error says which module, which worker, and what to do; shipped, it works both ways."""
    (tmp_path / "mislaid.py").write_text(
        "class Found:\n    pass\n\ndef find(number):\n    return Found(), number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import mislaid

    report = stratagem.map(mislaid.find, range(3), strategy=lend(FAILING[mode]), log="error")
    shipping = FAILING[mode].replace(")", ", ship_modules=['mislaid'])").replace("(, ", "(")
    with stratagem.strategy(shipping) as strategy:
        found = stratagem.map(mislaid.find, range(3), strategy=strategy).values

    assert {type(o.error) for o in report} == {TransportError}
    assert all(
        f"worker {o.worker} has no module 'mislaid'" in str(o.error)
        and "ship_modules=['mislaid']" in str(o.error)
        for o in report
    )
    assert [(type(thing), number) for thing, number in found] == [
        (mislaid.Found, number) for number in range(3)
    ]


def test_large_functions_arguments_and_results_travel(strategy):
    """A function that holds much, and results beyond what Ray sends in a message."""
    ballast = "y" * 200_000

    def measure(size):
        return len(ballast), len(jobs.long_text(size))

    report = stratagem.map(measure, range(100), strategy=strategy)
    texts = stratagem.map(jobs.long_text, [100_000, 10, 3_000_000], strategy=strategy)

    assert report.values == [(200_000, number) for number in range(100)]
    assert [len(text) for text in texts.values] == [100_000, 10, 3_000_000]


def test_lines_logged_in_processes_reach_the_caller(strategy, caplog):
    """They carry the run id and the key of the task; the outcome names host and process."""
    with caplog.at_level(logging.WARNING, "tests.ray_jobs"):
        report = stratagem.map(jobs.speak, range(3), strategy=strategy)
        until(lambda: len([r for r in caplog.records if r.name == "tests.ray_jobs"]) == 3)
    heard = {
        (r.stratagem_run_id, r.stratagem_task_key, r.getMessage())
        for r in caplog.records
        if r.name == "tests.ray_jobs"
    }

    assert heard == {(report.run_id, str(n), f"task {n} speaks") for n in range(3)}
    assert {o.worker.rpartition("-")[2] for o in report} == {str(pid) for pid in report.values}
    assert all(o.worker.startswith(f"{os.uname().nodename}/pid-") for o in report)


def test_a_strategy_states_what_its_mode_can_do():
    """Only processes can be killed; only what is isolated costs no other."""
    stated = {}
    for spec in ("ray", "ray(on_lost='isolate')", "ray(mode='tasks')"):
        with stratagem.strategy(spec) as made:
            stated[spec] = (
                made.can_kill,
                made.isolates_crashes,
                made.enforces_timeouts,
                made.distributed,
                made.shares_memory,
            )

    assert stated == {
        "ray": (False, False, True, True, False),
        "ray(on_lost='isolate')": (False, True, True, True, False),
        "ray(mode='tasks')": (True, True, True, True, False),
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("mode='threads'", "mode must be one of actors, tasks"),
        ("on_lost='retry'", "on_lost must be one of isolate, fail"),
        ("n_workers=0", "n_workers must be a whole number"),
        ("max_concurrency=0", "max_concurrency must be a whole number"),
        ("num_cpus=-1", "num_cpus must be a number, at least 0"),
        ("mode='tasks', num_cpus=0", "num_cpus must be a number, more than 0"),
        ("ship_modules='helpers'", "ship_modules is a list"),
        ("address='ray://10.0.0.7:10001'", "give host:port of its head"),
        ("address='10.0.0.7'", "give host:port of its head"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, said):
    """Before anything starts."""
    with pytest.raises(StrategyOptionError, match=said):
        stratagem.strategy(f"ray({options})")


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "auto"])
def test_a_cluster_that_is_open_to_anybody_is_refused(address, monkeypatch, tmp_path):
    """With a token, with TLS, or where it is said that this is meant, it is not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    spec = f"ray(address='{address}')"
    with pytest.raises(StrategyOptionError, match="may run code there; set RAY_AUTH_MODE=token"):
        stratagem.strategy(spec)
    stratagem.strategy(spec.replace(")", ", insecure=True)")).close()
    monkeypatch.setenv("RAY_USE_TLS", "1")
    stratagem.strategy(spec).close()
    monkeypatch.setenv("RAY_USE_TLS", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 32)
    stratagem.strategy(spec).close()


def test_another_cluster_than_that_of_the_program_is_refused(cluster):
    """A program can have one Ray; the error names both."""
    with (
        stratagem.strategy("ray(address='127.0.0.1:1')") as strategy,
        pytest.raises(ClusterError, match=rf"joined Ray at {cluster} already.*127\.0\.0\.1:1"),
    ):
        stratagem.run([partial(tasks.square, 2)], strategy=strategy)


def test_a_ray_that_is_there_is_used_and_left_alone(cluster):
    """Nothing is closed but what was opened."""
    import ray

    with stratagem.strategy(f"ray(address='{cluster}', n_workers=1)") as strategy:
        values = strategy.run_tasks([partial(tasks.square, 3)])

    assert values == [9]
    assert ray.is_initialized()


def test_no_room_for_an_actor_is_an_error(cluster):
    """It says what was asked for, after the time that was allowed."""
    spec = "ray(n_workers=1, num_cpus=50, start_timeout=1.0)"
    began = time.monotonic()
    with (
        stratagem.strategy(spec) as strategy,
        pytest.raises(ClusterError, match=r"no actor is ready after 1 s; .* with 50 CPUs each"),
    ):
        stratagem.run([partial(tasks.square, 2)], strategy=strategy)

    assert time.monotonic() - began < 20


def test_no_room_for_a_task_is_an_error(cluster):
    """It says how many CPUs there are."""
    with (
        stratagem.strategy("ray(mode='tasks', num_cpus=50)") as strategy,
        pytest.raises(ClusterError, match="it has 2 CPUs, and a task is to have 50"),
    ):
        stratagem.run([partial(tasks.square, 2)], strategy=strategy)
