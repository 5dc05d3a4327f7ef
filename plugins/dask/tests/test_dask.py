"""``dask`` on a real cluster of several processes: who is hurt by what, and who is not."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial

import jobs
import psutil
import pytest

import stratagem
from stratagem import (
    ClusterError,
    StrategyOptionError,
    TaskLostError,
    TaskTimeoutError,
    TransportError,
)
from stratagem.testing import failures, mischief, take_stock, tasks
from stratagem.testing.waiting import lines, until
from stratagem_dask import DaskStrategy
from stratagem_dask.loopback import loopback_cluster

SLOTS = 4


@pytest.fixture
def strategy(cluster):
    with stratagem.strategy(cluster.spec(on_lost="isolate", grace=0.5)) as made:
        yield made


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
    """Make so many calls, two of which end their worker, and five of which fail as can be."""
    calls = [partial(jobs.noted, ran, number) for number in range(total)]
    poisons = {total // 4: mischief.leave_with_three, total // 2: mischief.kill_own_process}
    bad = dict(enumerate(BAD.values(), start=50))
    for number, further in (poisons | bad).items():
        calls[number] = partial(jobs.noted_then, ran, number, further)
    return calls, {str(number) for number in poisons}, {str(number) for number in bad}


def test_only_poisons_are_lost_among_three_thousand_that_may_run_twice(strategy, tmp_path):
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
    assert len([o for o in report if o.attempts > 1]) <= SLOTS + len(bad)
    assert {o.error.exitcode for o in report if o.status == "lost"} == {3, -signal.SIGKILL}


def test_nothing_begins_twice_by_default(cluster, tmp_path):
    """A death loses what was running on that worker, and nothing else that it had."""
    calls, poisons, bad = batch_with_poisons(tmp_path / "ran")
    with stratagem.strategy(cluster.spec()) as strategy:
        report = stratagem.run(calls, strategy=strategy, log="error")
    times = Counter(lines(tmp_path / "ran"))
    lost = {o.key for o in report if o.status == "lost"}

    assert max(times.values()) == 1
    assert {o.key for o in report if o.ok} | bad <= set(times)
    assert poisons <= lost
    assert len(lost) <= len(poisons) * SLOTS // 2
    assert {o.attempts for o in report} == {1}


def test_a_worker_that_is_killed_costs_nothing_that_may_run_again(strategy, tmp_path):
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


def test_a_task_that_hangs_is_killed_at_its_timeout(strategy, tmp_path):
    """A plain function that has a timeout runs in a process of its own, which ends then."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    calls = [partial(jobs.wait_unless_first, begun, gate, number) for number in range(20)]
    report = stratagem.run(calls, strategy=strategy, timeout=1.5, log="error")

    assert report.counts == {"ok": 19, "timeout": 1}
    assert isinstance(report[0].error, TaskTimeoutError)
    assert not report[0].error.abandoned


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


def test_children_share_the_slots_of_the_cluster(strategy):
    """Parents that wait lend their threads: all are used, and never more."""
    report = stratagem.map(jobs.ask_naps, [6] * 8, strategy=strategy)
    intervals = [(began, end) for naps in report.values for _, began, end in naps]

    assert [[number for number, *_ in naps] for naps in report.values] == [list(range(6))] * 8
    assert overlap(intervals) == SLOTS


def test_coroutines_wait_for_two_nested_runs_at_once(strategy):
    """A slot is lent while any part of a task waits, on a full cluster too."""
    report = stratagem.map(jobs.ask_naps_twice, [3] * 8, strategy=strategy)
    intervals = [(began, end) for naps in report.values for _, began, end in naps]

    assert [len(naps) for naps in report.values] == [6] * 8
    assert overlap(intervals) <= SLOTS


def test_a_parent_that_is_killed_takes_its_children_with_it(cluster, tmp_path):
    """They are stopped where they run, and the run ends with the parent lost."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with stratagem.strategy(cluster.spec(grace=0.5)) as strategy:
        calls = [partial(jobs.wait_for_children, begun, gate)]
        with stratagem.stream(calls, strategy=strategy, log="error") as stream:
            reader = threading.Thread(target=list, args=(stream,))
            reader.start()
            until(lambda: len(lines(begun)) == 3)
            parent = next(line for line in lines(begun) if line.startswith("parent"))
            children = [line for line in lines(begun) if not line.startswith("parent")]
            os.kill(int(parent.partition(" ")[2]), signal.SIGKILL)
            reader.join()
        elsewhere = [pid for pid in children if pid != parent.partition(" ")[2]]
        until(lambda: lines(begun).count("over") >= len(elsewhere))

    assert stream.report.counts == {"lost": 1}


def test_a_budget_holds_over_all_workers(strategy):
    """One place, however many workers ask for it: whoever owns the run keeps the count."""
    budget = stratagem.Budget("tests of dask", 1)
    report = stratagem.map(partial(jobs.nap_within, budget), range(8), strategy=strategy)
    intervals = [(began, end) for _, began, end in report.values]

    assert overlap(intervals) == 1


def test_a_lost_machine_is_told_while_others_are_busy(tmp_path, monkeypatch):
    """Nobody can read its notes, so what it had counts as begun; the run need not pause for that."""
    monkeypatch.setattr("stratagem_dask.worker.read_notes", lambda session, worker: None)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    rest = (partial(tasks.square, number) for number in itertools.count())
    calls = itertools.chain([partial(mischief.wait, begun, gate)], rest)
    lost, deadline = None, time.monotonic() + 40
    with (
        loopback_cluster(hosts=("127.0.0.4", "127.0.0.5"), threads=2) as cluster,
        stratagem.strategy(cluster.spec(grace=0.2)) as strategy,
        stratagem.stream(calls, strategy=strategy, log="error") as stream,
    ):
        killed = False
        for outcome in stream:
            if not killed and lines(begun):
                os.killpg(psutil.Process(int(lines(begun)[0])).ppid(), signal.SIGKILL)
                killed = True
            lost = outcome if outcome.key == "0" else None
            if lost is not None or time.monotonic() > deadline:
                break

    assert killed
    assert lost is not None
    assert lost.status == "lost"


def test_a_module_that_workers_lack_is_named_or_travels(cluster, tmp_path, monkeypatch):
    """The error says which module, which worker, and what to do; shipped, it works both ways."""
    (tmp_path / "mislaid.py").write_text(
        "class Found:\n    pass\n\ndef find(number):\n    return Found(), number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import mislaid

    with stratagem.strategy(cluster.spec()) as strategy:
        report = stratagem.map(mislaid.find, range(3), strategy=strategy, log="error")
    with stratagem.strategy(cluster.spec(ship_modules=["mislaid"])) as strategy:
        found = stratagem.map(mislaid.find, range(3), strategy=strategy).values

    assert {type(o.error) for o in report} == {TransportError}
    assert all(
        f"worker {o.worker} has no module 'mislaid'" in str(o.error)
        and "ship_modules=['mislaid']" in str(o.error)
        for o in report
    )
    assert [(type(thing), number) for thing, number in found] == [
        (mislaid.Found, 0),
        (mislaid.Found, 1),
        (mislaid.Found, 2),
    ]


def test_large_functions_arguments_and_results_travel(strategy):
    """A function that holds much goes to a worker once; a result that is large comes back whole."""
    ballast = "y" * 200_000

    def measure(size):
        return len(ballast), len(jobs.long_text(size))

    report = stratagem.map(measure, range(100), strategy=strategy)
    texts = stratagem.map(jobs.long_text, [100_000, 10, 1_000_000], strategy=strategy)

    assert report.values == [(200_000, number) for number in range(100)]
    assert [len(text) for text in texts.values] == [100_000, 10, 1_000_000]


def test_a_batch_of_which_nothing_can_travel_ends(strategy):
    """Each task has an error that says what cannot be pickled."""
    report = stratagem.map(tasks.square, [threading.Lock()] * 100, strategy=strategy, log="error")

    assert {type(o.error) for o in report} == {TransportError}
    assert len(report) == 100


def test_a_result_that_is_too_large_is_an_error(cluster):
    """The error names the size, the limit and the option."""
    with stratagem.strategy(cluster.spec(max_result_bytes=1_000)) as strategy:
        report = stratagem.map(jobs.long_text, [10, 2_000], strategy=strategy, log="error")

    assert [str(o.status) for o in report] == ["ok", "error"]
    assert "max_result_bytes=1000" in str(report[1].error)


def test_lines_logged_on_workers_reach_the_caller(strategy, caplog):
    """They carry the run id and the key of the task; the outcome names host and process."""
    with caplog.at_level(logging.WARNING, "tests.jobs"):
        report = stratagem.map(jobs.speak, range(3), strategy=strategy)
        until(lambda: len([r for r in caplog.records if r.name == "tests.jobs"]) == 3)
    heard = {
        (r.stratagem_run_id, r.stratagem_task_key, r.getMessage())
        for r in caplog.records
        if r.name == "tests.jobs"
    }

    assert heard == {(report.run_id, str(n), f"task {n} speaks") for n in range(3)}
    assert {o.worker.rpartition("-")[2] for o in report} == {str(pid) for pid in report.values}
    assert all(o.worker.startswith(f"{os.uname().nodename}/pid-") for o in report)


def test_a_worker_in_the_same_process_logs_once(caplog):
    """Its lines reach the handlers as those of the caller do, and are sent to nobody."""
    spec = "dask(processes=False, n_workers=1, threads_per_worker=2)"
    with caplog.at_level(logging.WARNING, "tests.jobs"), stratagem.strategy(spec) as strategy:
        report = stratagem.map(jobs.speak, range(3), strategy=strategy)
        stratagem.map(tasks.square, range(100), strategy=strategy)
    said = [r.getMessage() for r in caplog.records if r.name == "tests.jobs"]

    assert report.counts == {"ok": 3}
    assert sorted(said) == [f"task {n} speaks" for n in range(3)]


def test_a_worker_with_other_versions_is_named(strategy, caplog):
    """A warning says which worker, and what differs how; one like it says no more."""
    theirs = {"python": "3.9", "stratagem": "0.0.1", "cloudpickle": "3.1.2"}
    for port in (1, 2):
        strategy._owner.receive(f"tls://far:{port}", ("hello", "far/pid-1", theirs))

    said = [r.getMessage() for r in caplog.records if "worker_differs" in r.getMessage()]
    assert len(said) == 1
    assert "worker far/pid-1 (tls://far:1)" in said[0]
    assert "python 3.9 there" in said[0]
    assert "stratagem 0.0.1 there" in said[0]


def test_the_loss_of_the_scheduler_ends_the_run_with_what_is_done(tmp_path):
    """The error says what is gone, the report has what had ended, and a next run says it too."""
    endless = partial(mischief.wait, tmp_path / "begun", tmp_path / "gate")
    calls = [*(partial(tasks.square, i) for i in range(9)), endless]
    with (
        loopback_cluster(hosts=("127.0.0.4",), threads=2) as cluster,
        stratagem.strategy(cluster.spec(grace=0.2)) as strategy,
    ):
        stratagem.map(tasks.square, range(3), strategy=strategy)
        with stratagem.stream(calls, strategy=strategy, log="error") as stream:
            first = [next(stream) for _ in range(9)]
            os.killpg(cluster.scheduler.pid, signal.SIGKILL)
            with pytest.raises(ClusterError, match=r"scheduler of Dask at tls://.* is gone"):
                list(stream)

    assert sorted(o.value for o in first) == [i * i for i in range(9)]
    assert stream.report.counts["ok"] == 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("address='tcp://10.0.0.7:8786'", "is not encrypted"),
        ("address='10.0.0.7:8786'", "is not encrypted"),
        ("address='tls://10.0.0.7:8786'", "needs tls_ca_file, tls_cert and tls_key"),
        ("address='tcp://'", "is no address of a scheduler"),
        ("address='tcp://127.0.0.1:1', scheduler_file='x'", "address and scheduler_file name"),
        ("on_lost='retry'", "on_lost must be one of isolate, fail"),
        ("n_workers=0", "n_workers must be a whole number"),
        ("ship_modules='helpers'", "ship_modules is a list"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, said):
    """Before anything starts; an address that others can listen to is one of them."""
    with pytest.raises(StrategyOptionError, match=said):
        stratagem.strategy(f"dask({options})")


def test_a_cluster_that_cannot_be_reached_is_named():
    """The run ends with an error that says which, and soon."""
    with stratagem.strategy("dask(address='tcp://127.0.0.1:1', start_timeout=0.5)") as strategy:
        began = time.monotonic()
        with pytest.raises(ClusterError, match=r"cluster at tcp://127\.0\.0\.1:1 cannot"):
            stratagem.run([partial(tasks.square, 2)], strategy=strategy)

    assert time.monotonic() - began < 15


def test_a_cluster_without_a_worker_is_named():
    """The run ends when no worker has come in the time that it had."""
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as made,
        stratagem.strategy(f"dask(address={made.scheduler_address!r}, start_timeout=1)") as dask,
        pytest.raises(ClusterError, match=r"has no worker after 1 s; start one"),
    ):
        stratagem.run([partial(tasks.square, 2)], strategy=dask)


def test_a_cluster_that_adapts_grows_from_nothing(tmp_path):
    """What waits here is seen by the scheduler, so that workers are asked for."""
    from distributed import Client, LocalCluster

    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as made,
        Client(made) as client,
        DaskStrategy(client=client, grace=0.2) as strategy,
    ):
        made.adapt(minimum=0, maximum=3, interval="50 ms", target_duration="100 ms")
        calls = [partial(mischief.wait, begun, gate)] * 3
        with stratagem.stream(calls, strategy=strategy) as stream:
            reader = threading.Thread(target=list, args=(stream,))
            reader.start()
            until(lambda: len(lines(begun)) == 3)
            gate.touch()
            reader.join()

    assert stream.report.counts == {"ok": 3}


def test_the_default_engine_leaves_quietly_when_the_program_ends(tmp_path):
    """A cluster that nobody closed is closed before Dask does so, without a word and soon."""
    script = tmp_path / "script.py"
    script.write_text(
        "import stratagem\n"
        "if __name__ == '__main__':\n"
        "    strategy = 'dask(n_workers=1, threads_per_worker=2)'\n"
        "    print(stratagem.map(abs, [-1, -2], strategy=strategy).values)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


def test_a_client_that_is_there_is_left_alone():
    """``client=`` runs on its cluster, of which nothing is closed but what was opened."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as made,
        Client(made) as client,
    ):
        with DaskStrategy(client=client) as strategy:
            values = strategy.run_tasks([partial(tasks.square, 3)])
        assert client.submit(tasks.square, 4).result() == 16

    assert values == [9]


def test_an_embedded_cluster_listens_on_loopback_alone():
    """No socket of it can be reached from another machine."""
    for processes in (True, False):
        stock = take_stock()
        before = listening(os.getpid())
        spec = f"dask(n_workers=1, threads_per_worker=1, processes={processes})"
        with stratagem.strategy(spec) as strategy:
            strategy.run_tasks([partial(tasks.square, 2)])
            started = take_stock().processes.keys() - stock.processes.keys()
            opened = listening(os.getpid()) - before
            opened |= {address for pid in started for address in listening(pid)}
        assert {address.ip for address in opened} == {"127.0.0.1"}


def test_a_loopback_cluster_listens_on_loopback_alone(cluster, strategy):
    """Not even its web servers can be reached from another machine."""
    until(lambda: len({o.worker for o in stratagem.map(jobs.nap, range(8), strategy=strategy)}) > 1)
    me = psutil.Process(cluster.scheduler.pid)
    workers = [psutil.Process(nanny.pid) for nanny in cluster.workers]
    below = [child for nanny in workers for child in nanny.children()]
    opened = {a.ip for process in (me, *workers, *below) for a in listening(process.pid)}

    assert opened == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}


def listening(pid):
    """Give the addresses at which a process listens."""
    connections = psutil.Process(pid).net_connections()
    return {one.laddr for one in connections if one.status == psutil.CONN_LISTEN}


SCRIPT = """
import sys
import stratagem

OFFSET = 7

class Pair:
    def __init__(self, number):
        self.number = number + OFFSET

def pair(number):
    print("a task prints")
    return Pair(number)

if __name__ == "__main__":
    report = stratagem.map(pair, range(3), strategy=sys.argv[1])
    assert {type(value) for value in report.values} == {Pair}
    print([value.number for value in report.values])
"""


def test_a_script_moves_to_the_cluster_by_one_word(cluster, tmp_path):
    """What it defines itself travels to workers that have never seen it, and its values back."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    said = [
        subprocess.run(
            [sys.executable, str(script), spec], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for spec in ("threads", cluster.spec())
    ]

    assert said == ["[7, 8, 9]"] * 2


def test_a_task_lost_with_its_machine_says_so(cluster, tmp_path):
    """By default a task whose worker is killed is lost, and the error names that worker."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with stratagem.strategy(cluster.spec(grace=0.5)) as strategy:
        calls = [partial(mischief.wait, begun, gate)]
        with stratagem.stream(calls, strategy=strategy, log="error") as stream:
            reader = threading.Thread(target=list, args=(stream,))
            reader.start()
            until(lambda: lines(begun))
            os.kill(int(lines(begun)[0]), signal.SIGKILL)
            reader.join()

    assert stream.report.counts == {"lost": 1}
    assert isinstance(stream.report[0].error, TaskLostError)
    assert f"pid-{lines(begun)[0]}" in str(stream.report[0].error)
