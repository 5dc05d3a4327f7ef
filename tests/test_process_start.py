"""How workers start, and what is told of one that cannot."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from stratagem import Engine, WorkerStartError

PATIENCE = 30.0
METHODS = ["forkserver", "spawn"]


def test_the_message_holds_the_problem_and_the_end_of_stderr():
    """The guard of a script is named only where it may be what is missing."""
    told = WorkerStartError("spawn", 1, problem="initializer load raised OSError: no", stderr="Oh!")
    untold = WorkerStartError("fork", -9, stderr="Killed\n")

    assert str(told) == (
        "worker processes (spawn) cannot start: initializer load raised OSError: no; "
        "what it wrote to stderr ends with\nOh!\n"
    )
    assert str(untold) == (
        "worker processes (fork) die before they are ready, the last one with exit code -9; "
        "what it wrote to stderr ends with\nKilled\n"
        'A script that starts workers needs `if __name__ == "__main__":` around what it runs'
    )


REFUSING = """
import logging, os, sys
import stratagem

logging.getLogger("stratagem").setLevel("ERROR")
with open(sys.argv[2], "a") as ledger:
    print(os.getpid(), file=ledger)
if __name__ != "__main__":
    print("looking for the model", file=sys.stderr)
    raise ImportError("no such model")

if __name__ == "__main__":
    try:
        stratagem.map(abs, range(9), strategy=f"processes(max_workers=1, start_method='{sys.argv[1]}')")
    except stratagem.WorkerStartError as error:
        print(error)
        print("facts:", error.start_method, error.exitcode, error.problem.splitlines()[0])
        print("stderr:", error.stderr)
        print("traceback:", error.remote_traceback)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_workers_cannot_import_is_told_of_with_what_it_said(
    start_script, tmp_path, method
):
    """After three tries the run ends; its error holds stderr and traceback of the worker."""
    ledger = tmp_path / "ledger"
    process = start_script(REFUSING, method, ledger)
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert (process.returncode, complaints) == (0, "")
    assert f"worker processes ({method}) cannot start: importing " in printed
    assert f"facts: {method} 1 importing " in printed
    assert " raised ImportError: no such model" in printed
    said = printed.partition("stderr:")[2]
    assert "looking for the model" in said
    assert 'raise ImportError("no such model")' in said
    assert 'raise ImportError("no such model")' in printed.partition("traceback:")[2]
    assert len(ledger.read_text().split()) == 1 + 3


CHATTY = """
import sys
import stratagem

print("imported as", __name__, file=sys.stderr)

if __name__ == "__main__":
    strategy = f"processes(max_workers=1, start_method='{sys.argv[1]}')"
    print(stratagem.map(abs, [-1], strategy=strategy).values)
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_a_worker_says_while_it_starts_well_is_not_lost(start_script, method):
    """It stands on the stderr of the program, once."""
    process = start_script(CHATTY, method)
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert printed == "[1]\n"
    assert complaints == "imported as __main__\nimported as __mp_main__\n"


HANGING = """
import logging, os, sys, threading
import stratagem

logging.getLogger("stratagem").setLevel("ERROR")

def wait_for_ever():
    print(os.getpid(), flush=True)
    threading.Event().wait()

if __name__ != "__main__":
    wait_for_ever()

if __name__ == "__main__":
    options = f"max_workers=1, start_method='{sys.argv[1]}', start_timeout={sys.argv[2]}"
    try:
        stratagem.map(abs, range(9), strategy=f"processes({options})")
    except stratagem.WorkerStartError as error:
        print(error)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_does_not_get_ready_is_killed_and_says_where_it_stood(start_script, method):
    """The deadline of the start ends it; its stack of that moment stands in the error."""
    process = start_script(HANGING, method, 2)
    printed, complaints = process.communicate(timeout=PATIENCE)
    pids = [line for line in printed.splitlines() if line.isdigit()]

    assert (process.returncode, complaints) == (0, "")
    assert "it was not ready within start_timeout, and was killed" in printed
    assert "in wait_for_ever" in printed
    assert 1 <= len(pids) <= 3
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_hangs_at_its_start_ends_with_a_parent_that_is_killed(start_script, method):
    """Its lifeline is watched before anything of the program is imported."""
    process = start_script(HANGING, method, 60)
    worker = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait(PATIENCE)

    deadline = time.monotonic() + PATIENCE
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


MODULE = """
import sys
import stratagem

def double(number):
    return number * 2

if __name__ == "__main__":
    strategy = f"processes(max_workers=1, start_method='{sys.argv[1]}')"
    print(stratagem.map(double, [1, 2], strategy=strategy).values)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["crew.work", "alone"])
def test_a_module_run_by_its_name_is_imported_by_its_workers(tmp_path, method, name):
    """What ``python -m`` runs, in a package or not, is found by name."""
    path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(MODULE)
    finished = subprocess.run(
        [sys.executable, "-m", name, method],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (finished.stdout, finished.stderr) == ("[2, 4]\n", "")


@pytest.fixture
def use_up_descriptors():
    """Let this process open no further descriptor, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = []

    def use_up():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with suppress(OSError):
            while True:
                used.append(os.dup(0))

    yield use_up
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for descriptor in used:
        os.close(descriptor)


def test_where_no_further_worker_can_start_those_there_are_go_on(use_up_descriptors):
    """A system that refuses the second worker does not end the run: the first does it all."""
    with Engine("processes(max_workers=4)") as engine:
        (first,) = engine.map(lambda _: os.getpid(), [0]).values
        use_up_descriptors()
        report = engine.map(lambda _: os.getpid(), range(40))

    assert report.values == [first] * 40


def test_a_run_without_descriptors_for_its_signals_runs(use_up_descriptors, caplog):
    """It says that signals are not looked after, and leaves them to the interpreter."""
    handler = signal.getsignal(signal.SIGINT)
    with Engine("sequential") as engine:
        engine.map(abs, [1])  # which imports all that is needed
        use_up_descriptors()
        report = engine.map(lambda _: signal.getsignal(signal.SIGINT), range(2))

    assert report.values == [handler] * 2
    assert ["no_signal_handlers" in record.getMessage() for record in caplog.records] == [True]


SOME_DESCRIPTORS = 8
"""With so many the dispatcher runs, and it is the worker that gets none."""


@pytest.mark.parametrize("left", range(1, 12))
def test_where_no_worker_can_start_at_all_the_error_says_what_the_system_refused(
    start_script, left
):
    """Wherever the descriptors run out, the run ends, with the OSError or an error from it."""
    process = start_script(
        """
import logging, os, resource, sys
import stratagem

if __name__ == "__main__":
    logging.getLogger("stratagem").setLevel("ERROR")
    engine = stratagem.Engine("processes(max_workers=2, start_method='fork')")
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + int(sys.argv[1]), hard))
    try:
        engine.map(abs, range(9))
    except stratagem.WorkerStartError as error:
        print(error, repr(error.__cause__))
    except OSError as error:
        print(repr(error))
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(engine.map(abs, [-1]).values)
    engine.close()
""",
        left,
    )
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert complaints == ""
    assert left < SOME_DESCRIPTORS or "cannot start: the system refuses: [Errno 24]" in printed
    assert "OSError(24" in printed
    assert printed.endswith("[1]\n")


def test_pools_that_start_workers_at_once_all_tell_them_of_the_program(run_script):
    """While one pool keeps ``__main__`` from ``multiprocessing``, another still describes it."""
    printed = run_script("""
import threading
from stratagem_builtin.program import describe_main, untold_main

if __name__ == "__main__":
    described = []
    with untold_main():
        other = threading.Thread(target=lambda: described.append(describe_main()))
        other.start()
        other.join(0.2)  # it has to wait; without that it would be told of no program
    other.join()
    print(list(described[0]))
""")

    assert printed == "['init_main_from_path']\n"
