"""Check how the command line stops: by signals, at a terminal, by errors that end a run."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.once

PATIENCE = 60.0
SOON = 5.0
FUNCTIONS = """
import os, time

def work(item):
    if item == "done":
        return "done " * 2_000
    os.write(2, b"begun\\n")
    time.sleep(item)
    return item

def refused(item):
    if item == 5:
        error = RuntimeError("wrong key")
        error.status_code = 401
        raise error
    return item

def spent(item):
    from stratagem import StopRun
    if item == 5:
        raise StopRun("the quota is used up")
    return item
"""
SPECS = [
    "sequential",
    "threads(max_workers=4, grace={})",
    "asyncio(max_concurrency=4, grace={})",
    "processes(max_workers=4, grace={})",
    "retry(threads(max_workers=4, grace={}))",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with the functions that are mapped."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRATAGEM_STRATEGY", raising=False)
    return tmp_path


def command(*arguments: str) -> list[str]:
    """Give the words that start the command line."""
    return [sys.executable, "-m", "stratagem", *arguments]


def records(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file, each of which must be whole."""
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def write_items(path: Path, *items: Any) -> str:
    """Write items as JSON lines; give the path."""
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return str(path)


def interrupt(here: Path, spec: str, *signums: signal.Signals) -> tuple[int, str, float]:
    """Send signals while 40 calls of a minute wait behind 200 done; give code, stderr, seconds."""
    source = write_items(here / "in.jsonl", *["done"] * 200, *[60] * 40)
    process = subprocess.Popen(
        command("map", "functions:work", source, "-s", spec, "-o", "out.jsonl"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    begun = 0
    while begun < (1 if spec == "sequential" else 4):
        begun += "begun" in process.stderr.readline()
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    for number, signum in enumerate(signums):
        if number:
            while "again to kill" not in process.stderr.readline():
                assert process.poll() is None
        process.send_signal(signum)
    began = time.monotonic()
    with process:
        _, err = process.communicate(timeout=PATIENCE)
    seconds = time.monotonic() - began
    _, left = psutil.wait_procs(children, timeout=PATIENCE)
    assert left == []
    return process.returncode, err, seconds


def assert_kept(lines: list[dict[str, Any]], spec: str) -> None:
    """Check that what was done has its line; a worker may have had some behind a long one."""
    done = [line["status"] for line in lines if line["index"] < 200]
    assert set(done) <= ({"ok", "cancelled"} if "processes" in spec else {"ok"})
    assert done.count("ok") > 100
    assert {line["status"] for line in lines if line["index"] >= 200} == {"cancelled"}


@pytest.mark.parametrize("spec", SPECS[1:])
def test_one_signal_ends_within_the_grace(here: Path, spec: str) -> None:
    """Of 40 calls of a minute no more begin, and what was done is on disk in whole lines."""
    code, err, seconds = interrupt(here, spec.format(0.3), signal.SIGTERM)

    lines = records(here / "out.jsonl")
    assert code == 143
    assert seconds < SOON
    assert "in flight, waiting up to 0.3 s; again to kill" in err
    assert "interrupted by SIGTERM: " in err
    assert_kept(lines, spec)
    assert [line["index"] for line in lines] == sorted(line["index"] for line in lines)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("signums", "expected"),
    [
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGINT, signal.SIGTERM), 130),
    ],
    ids=["SIGTERM", "SIGINT", "both"],
)
def test_two_signals_end_at_once(
    here: Path, spec: str, signums: tuple[signal.Signals, ...], expected: int
) -> None:
    """Nothing is waited for, nothing is left running, and every line that was done is whole."""
    code, err, seconds = interrupt(here, spec.format(100), *signums)

    lines = records(here / "out.jsonl")
    assert code == expected
    assert seconds < SOON
    assert f"interrupted by {signums[0].name}, twice: " in err
    assert "Traceback" not in err
    assert_kept(lines, spec)


def test_at_a_terminal_the_display_says_what_is_waited_for(here: Path) -> None:
    """Ctrl-C typed at the keyboard stops the run; the line under the bar tells how to go on."""
    source = write_items(here / "in.jsonl", "done", 60, 60, 60)
    pid, terminal = pty.fork()
    if pid == 0:
        spec = "threads(max_workers=2, grace=100)"
        words = command("map", "functions:work", source, "-s", spec, "-o", "out.jsonl")
        os.execve(words[0], words, os.environ | {"COLUMNS": "120", "TERM": "xterm"})
    seen = read_until(terminal, "begun", times=2)
    os.write(terminal, b"\x03")
    seen += read_until(terminal, "2 in flight, waiting up to 100 s; again to kill")
    os.write(terminal, b"\x03")
    began = time.monotonic()
    seen += read_until(terminal, None)
    seconds = time.monotonic() - began
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 130
    assert seconds < SOON
    assert "interrupted by SIGINT, twice: 3 tasks in" in seen
    assert [line["status"] for line in records(here / "out.jsonl")] == ["ok"] + ["cancelled"] * 2


def read_until(terminal: int, words: str | None, times: int = 1) -> str:
    """Read what a terminal shows until the words have appeared; None for until it hangs up."""
    seen = ""
    deadline = time.monotonic() + PATIENCE
    while words is None or seen.count(words) < times:
        assert time.monotonic() < deadline, seen
        try:
            block = os.read(terminal, 4096)
        except OSError:  # the way in which Linux says that the other end is closed
            block = b""
        if not block:
            assert words is None, seen
            break
        seen += block.decode(errors="replace")
    return seen


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_a_task_that_stops_the_run_is_quoted(here: Path) -> None:
    """StopRun ends the run with exit code 1, and its reason leads the summary."""
    source = write_items(here / "in.jsonl", *range(1_000))
    done = run("map", "functions:spent", source, "-s", "sequential", "-o", "out.jsonl")

    assert done.returncode == 1
    assert "stratagem: task '5' stopped the run: the quota is used up: 6 tasks in" in done.stderr
    assert len(records(here / "out.jsonl")) == 6


@pytest.mark.parametrize(("flags", "count"), [([], 20), (["--stop-on-auth"], 6)])
def test_a_wrong_key_stops_the_run_where_that_is_asked_for(
    here: Path, flags: list[str], count: int
) -> None:
    """With --stop-on-auth the first 401 is the last call."""
    source = write_items(here / "in.jsonl", *range(20))
    done = run("map", "functions:refused", source, "-s", "sequential", "-o", "out.jsonl", *flags)

    assert done.returncode == 1
    assert len(records(here / "out.jsonl")) == count
    assert ("at which the run is to stop" in done.stderr) == bool(flags)
