"""How worker processes are looked after: killed whole, replaced, and told of when they die."""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import psutil
import pytest

from stratagem import Engine
from stratagem_builtin import memory_events
from stratagem_builtin.descent import has_children, kill_descendants

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 30.0
METHODS = [
    pytest.param("fork", marks=pytest.mark.once),
    "forkserver",  # the default
    pytest.param("spawn", marks=pytest.mark.once),
]


def until(condition):
    """Wait for what another process brings about; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def append(path, text):
    """Add a line to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def read(path):
    return path.read_text().split() if path.exists() else []


def is_running(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def workers():
    """Give the processes below this one that are no zombies, apart from those that stay."""
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if is_running(process.pid) and not is_stayer(process)
    }


def is_stayer(process):
    try:
        return any("resource_tracker" in a or "forkserver" in a for a in process.cmdline())
    except psutil.NoSuchProcess:
        return True


FAMILY = """
import os, subprocess, sys, time
ledger = sys.argv[1]
def note():
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{os.getpid()}\\n".encode())
    os.close(descriptor)
if os.fork() == 0:                   # has a session of its own, as a browser does
    os.setsid()
    if os.fork() == 0:               # and is an orphan soon, as a daemon is
        note()
        time.sleep(300)
    os._exit(0)
note()
time.sleep(300)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_timeout_kills_children_orphans_and_those_with_a_session_of_their_own(tmp_path, method):
    """Of all that a task started nothing lives on; nineteen other tasks and a bystander do."""
    ledger = tmp_path / "ledger"
    before = workers()
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)

    def work(number):
        if number == 7:
            append(ledger, os.getpid())
            subprocess.Popen([sys.executable, "-c", FAMILY, ledger], start_new_session=True)
            until(lambda: len(read(ledger)) == 3)
            threading.Event().wait()
        return number

    with Engine(f"processes(max_workers=2, start_method='{method}')") as engine:
        report = engine.map(work, range(20), timeout=5)
        again = engine.map(work, [1, 2])

    assert [outcome.index for outcome in report.failures] == [7]
    assert report[7].status == "timeout"
    assert again.values == [1, 2]
    until(lambda: not any(map(is_running, read(ledger))))
    assert (len(read(ledger)), is_running(bystander.pid)) == (3, True)
    bystander.kill()
    bystander.wait()
    assert workers() <= before


def test_the_family_of_a_task_ends_with_a_parent_that_is_killed(start_script, tmp_path):
    """When the program is killed, also what a task moved into another session ends."""
    ledger = tmp_path / "ledger"
    process = start_script(
        """
import os, subprocess, sys, threading
import stratagem

def work(_):
    subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], start_new_session=True)
    threading.Event().wait()

if __name__ == "__main__":
    stratagem.map(work, range(1), strategy="processes(max_workers=1)")
""",
        ledger,
        FAMILY,
    )
    until(lambda: len(read(ledger)) == 2)
    process.kill()
    process.wait(PATIENCE)

    until(lambda: not any(map(is_running, read(ledger))))


def test_a_process_without_children_costs_a_look():
    """Nothing is searched for below a process that has none, and nothing beside it is killed."""
    lone = subprocess.Popen(["sleep", "300"])

    assert has_children(os.getpid())
    assert not has_children(lone.pid)
    kill_descendants(lone.pid)
    assert is_running(lone.pid)
    lone.kill()
    lone.wait()
    assert not has_children(lone.pid)


def test_what_a_worker_that_is_killed_had_started_in_its_group_ends(tmp_path):
    """A child of a lost task does not live on."""
    pids = tmp_path / "pids"

    def work(_):
        append(pids, subprocess.Popen(["sleep", "300"]).pid)
        os.kill(os.getpid(), signal.SIGKILL)

    with Engine("processes(max_workers=1)") as engine:
        report = engine.map(work, [0])

    assert report[0].status == "lost"
    until(lambda: not any(map(is_running, read(pids))))


def touch_nothing(_):
    """Read address 0."""
    ctypes.string_at(0)


CRASHES = {
    "SIGSEGV": (touch_nothing, "Segmentation fault"),
    "SIGABRT": (lambda _: os.abort(), "Aborted"),
    "SIGBUS": (lambda _: os.kill(os.getpid(), signal.SIGBUS), "Bus error"),
    "SIGFPE": (lambda _: os.kill(os.getpid(), signal.SIGFPE), "Floating"),
    "SIGILL": (lambda _: os.kill(os.getpid(), signal.SIGILL), "Illegal instruction"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_told_with_the_python_stack_of_its_worker(capfd, name, method):
    """One of twenty tasks crashes: it alone is lost, and its error says where it was."""
    crash, words = CRASHES[name]
    before = workers()

    def work(number):
        return crash(number) if number == 7 else number

    with Engine(f"processes(max_workers=2, start_method='{method}')") as engine:
        report = engine.map(work, range(20))
        again = engine.map(work, [1, 2])

    assert [outcome.index for outcome in report.failures] == [7]
    error = report[7].error
    assert (error.exitcode, error.reason) == (-signal.Signals[name], None)
    assert error.stack.startswith(f"Fatal Python error: {words}")
    assert ("touch_nothing" if name == "SIGSEGV" else "<lambda>") in error.stack
    assert error.__notes__ == [error.stack.rstrip()]
    assert pickle.loads(pickle.dumps(error)).stack == error.stack
    assert again.values == [1, 2]
    assert capfd.readouterr().err == ""
    assert workers() <= before


def test_a_death_without_a_crash_has_no_stack():
    """SIGKILL and an exit leave no last words."""
    deaths = [
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: os._exit(3),
    ]
    with Engine("processes(max_workers=1)") as engine:
        errors = engine.run(deaths).errors

    assert [(e.exitcode, e.stack, e.reason) for e in errors] == [(-9, "", None), (3, "", None)]


def test_a_kill_that_the_kernel_counts_as_one_for_want_of_memory_says_so(monkeypatch, tmp_path):
    """SIGKILL with a count that rose is ``oom``; SIGKILL without is not, nor is another death."""
    group = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    events = tmp_path / group / "memory.events"
    events.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(memory_events, "CGROUPS", tmp_path)

    def write(kills):
        events.write_text(f"low 0\nhigh 0\nmax 3\noom 2\noom_kill {kills}\noom_group_kill 0\n")

    def die(kills):
        write(kills)
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(kills):
        write(kills)
        os._exit(1)

    write(4)
    calls = [partial(die, 4), partial(die, 5), partial(die, 5), partial(leave, 6)]
    with Engine("processes(max_workers=1)") as engine:
        errors = engine.run(calls).errors

    assert [error.reason for error in errors] == [None, "oom", None, None]
    assert str(errors[1]).endswith("was killed by SIGKILL, for want of memory")
