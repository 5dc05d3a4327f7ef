"""What a task takes or changes in its worker, and that the next task does not find it."""

import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from stratagem import Engine, WorkerStartError
from stratagem_builtin import ProcessPoolStrategy, memory_limit
from stratagem_builtin.surroundings import Surroundings

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

GIGABYTE = 2**30
METHODS = [
    pytest.param("fork", marks=pytest.mark.once),
    "forkserver",  # the default
    pytest.param("spawn", marks=pytest.mark.once),
]


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_wants_more_than_max_memory_fails_alone_and_its_worker_goes_on(method):
    """It gets a MemoryError of its own, and no process dies of it."""

    def work(number):
        if number == 7:
            bytearray(3 * GIGABYTE)
        return os.getpid()

    options = f"max_workers=2, start_method='{method}', max_memory={2 * GIGABYTE}"
    with Engine(f"processes({options})") as engine:
        report = engine.map(work, range(20))
        again = engine.map(work, range(2))

    assert [outcome.index for outcome in report.failures] == [7]
    assert type(report[7].error) is MemoryError
    assert len({outcome.value for outcome in report if outcome.ok} | set(again.values)) <= 2


def test_an_initializer_does_not_get_more_either():
    """What is loaded into each worker counts, and a worker that has no room for it is told of."""
    strategy = ProcessPoolStrategy(
        max_workers=1, max_memory=2 * GIGABYTE, initializer=lambda: bytearray(3 * GIGABYTE)
    )
    with strategy, Engine() as engine, pytest.raises(WorkerStartError, match="raised MemoryError"):
        engine.map(abs, range(3), strategy=strategy)


def test_max_memory_that_cannot_be_kept_is_refused(monkeypatch):
    """A number that makes no sense, and a platform without such a bound, each by a clear error."""
    with pytest.raises(ValueError, match="max_memory must be a whole number"):
        ProcessPoolStrategy(max_memory=0)
    monkeypatch.setattr(memory_limit, "resource", None)
    with pytest.raises(ValueError, match="max_memory cannot be kept on this platform"):
        ProcessPoolStrategy(max_memory=GIGABYTE)
    ProcessPoolStrategy()


def surroundings():
    """Give what a task, and a child process of it, find around them."""
    code = "import os; m = os.umask(0); print(os.getcwd(), os.environ.get('MOOD'), m)"
    child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    mask = os.umask(0o077)
    os.umask(mask)
    here = (Path.cwd(), os.environ.get("MOOD"), os.environ.get("HOME"), mask)
    return (*here, "LATER" in os.environ, child.stdout)


CHANGES = {
    "directory": lambda path: os.chdir(path),
    "variable": lambda path: os.environ.update(MOOD="bad", LATER="yes"),
    "deletion": lambda path: os.environ.pop("HOME"),
    "clearing": lambda path: os.environ.clear(),
    "putenv": lambda path: os.putenv("MOOD", "bad"),
    "umask": lambda path: os.umask(0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", CHANGES)
def test_the_next_task_finds_its_surroundings_as_they_were(monkeypatch, tmp_path, method, change):
    """Directory, environment and umask are put back after the task that changed them."""
    monkeypatch.setenv("MOOD", "good")

    def work(number):
        if number == 7:
            CHANGES[change](tmp_path)
        return surroundings() if number % 7 == 1 else number

    with Engine(f"processes(max_workers=1, start_method='{method}')") as engine:
        report = engine.map(work, range(20))

    assert report.ok
    assert report[1].value == report[8].value == report[15].value
    directory, mood, home, *_ = report[1].value
    assert (directory, home) == (Path.cwd(), os.environ["HOME"])
    assert mood == (None if method == "forkserver" else "good")  # that of the fork server


def test_a_task_that_raises_leaves_its_surroundings_as_they_were(tmp_path):
    """Whatever the outcome is."""

    def work(number):
        if number == 1:
            os.chdir(tmp_path)
            raise ValueError(number)
        return Path.cwd()

    with Engine("processes(max_workers=1)") as engine:
        report = engine.map(work, range(3))

    assert [outcome.status for outcome in report] == ["ok", "error", "ok"]
    assert report[0].value == report[2].value


def test_what_the_program_and_the_initializer_set_stays(tmp_path):
    """Only what tasks change is put back."""

    def prepare():
        os.chdir(tmp_path)
        os.environ["MOOD"] = "ready"

    def work(_):
        found = (Path.cwd(), os.environ["MOOD"])
        os.environ["MOOD"] = "tired"
        return found

    with ProcessPoolStrategy(max_workers=1, initializer=prepare) as strategy, Engine() as engine:
        values = engine.map(work, range(3), strategy=strategy).values

    assert values == [(tmp_path, "ready")] * 3


def test_a_directory_that_is_gone_is_no_error(tmp_path):
    """There is nothing to go back to then."""
    here = tmp_path / "here"
    here.mkdir()

    def work(number):
        if number == 0:
            os.chdir("/")
            here.rmdir()
        return number

    def prepare():
        os.chdir(here)

    with ProcessPoolStrategy(max_workers=1, initializer=prepare) as strategy, Engine() as engine:
        assert engine.map(work, range(3), strategy=strategy).values == [0, 1, 2]


def test_a_process_that_is_not_watched_keeps_its_functions():
    """Only workers have them take note."""
    assert Surroundings().touched is False
    assert os.chdir.__module__ == "posix"
