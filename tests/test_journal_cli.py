"""The journal on the command line: real processes, their files and exit codes."""

import json
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from stratagem.cli.messages import CommandError
from stratagem.cli.output import refuse_same_path
from stratagem.testing.waiting import lines, until

pytestmark = pytest.mark.once

PATIENCE = 60

FUNCTIONS = """
import os, signal, sys, time
from pathlib import Path
from stratagem.testing.waiting import note

def work(item):
    note(Path("ledger"), item["id"])
    if item["id"] == 3 and Path("hold").exists():
        while Path("hold").exists():
            time.sleep(0.01)
    if item["id"] in (5, 6):
        raise ValueError("no such thing")
    return {"answer": item["id"] * 2}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in a directory with a function and ten items."""
    monkeypatch.chdir(tmp_path)
    Path("functions.py").write_text(FUNCTIONS, encoding="utf-8")
    items = [json.dumps({"id": number, "key": f"q{number}"}) for number in range(10)]
    Path("in.jsonl").write_text("\n".join(items) + "\n", encoding="utf-8")
    return tmp_path


def start(*arguments):
    command = [sys.executable, "-m", "stratagem", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err
    return process.returncode, out, err


def mapped(*more):
    return "map", "functions:work", "in.jsonl", "--journal", "run.db", *more


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def ran():
    return sorted(int(line) for line in lines(Path("ledger")))


def test_a_resumed_run_writes_everything_again_in_order(here):
    """Each row once; what succeeded is marked as recalled, what failed ran again."""
    assert here
    first_code, first, _ = run(*mapped())
    code, second, err = run(*mapped("--resume"))

    lines_of_both = [records(first), records(second)]
    for found in lines_of_both:
        assert [line["index"] for line in found] == list(range(10))
    assert [line["index"] for line in lines_of_both[1] if not line.get("recalled")] == [5, 6]
    assert [line.get("value") for line in lines_of_both[0]] == [
        line.get("value") for line in lines_of_both[1]
    ]
    assert (first_code, code) == (1, 1)
    assert ran() == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 9]
    assert "8 ok, 2 error, 8 recalled" in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(here, signum):
    """The command that it prints brings the run to its end, and writes every row."""
    assert here
    Path("hold").touch()
    process = start(*mapped("-s", "threads(grace=0.2)", "-o", "out file.jsonl"))
    until(lambda: len(lines(Path("ledger"))) == 10)
    process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    (advice,) = [line for line in err.splitlines() if "go on with: " in line]
    command = shlex.split(advice.partition("go on with: ")[2])

    Path("hold").unlink()
    code, _, _ = run(*command[1:])

    assert process.returncode == 128 + signum
    assert command[0] == "stratagem"
    assert code == 1
    found = records(Path("out file.jsonl").read_text(encoding="utf-8"))
    assert [line["index"] for line in found] == list(range(10))
    assert [line["index"] for line in found if not line.get("recalled")] == [3, 5, 6]


def test_a_killed_run_is_resumed_under_another_strategy(here):
    """What was in flight is named and runs again; nothing else does."""
    assert here
    Path("hold").touch()
    process = start(*mapped("-s", "threads(max_workers=2)", "--key", "key"))
    until(lambda: len(lines(Path("ledger"))) == 10)
    process.kill()
    process.communicate()
    Path("hold").unlink()
    _, told, _ = run("runs", "run.db")
    code, out, err = run(*mapped("-s", "asyncio", "--key", "key", "--resume"))

    doubtful = [line for line in told.splitlines() if line.startswith("in doubt: ")]
    assert "in doubt: task 'q3'" in doubtful
    assert f"tasks_in_doubt: {len(doubtful)} tasks" in err
    assert code == 1
    assert [line["key"] for line in records(out)] == [f"q{number}" for number in range(10)]
    again = {number for number in ran() if ran().count(number) > 1}
    assert again <= {5, 6} | {int(line.split("'")[1][1:]) for line in doubtful}


def test_a_journal_tells_what_it_holds(here):
    """Counts, each time it was driven, one line a cause with its count and first example."""
    assert here
    run(*mapped("-q"))
    code, told, err = run("runs", "run.db")

    assert (code, err) == (0, "")
    assert "run.db: 10 tasks: 8 ok, 2 error\n" in told
    assert "run 1: " in told
    assert ": finished after " in told
    assert "attempts: 10, " in told
    assert "2 x ValueError, first with task '5': no such thing\n" in told
    assert told.count("slowest: task ") == 5


def test_a_journal_is_exported_as_map_writes(here):
    """The same lines, but that they are recalled; to a file or to stdout."""
    assert here
    _, out, _ = run(*mapped())
    code, exported, _ = run("export", "run.db")
    to_file, nothing, _ = run("export", "run.db", "-o", "out.jsonl")

    assert (code, to_file, nothing) == (0, 0, "")
    assert records(exported) == [{**line, "recalled": True} for line in records(out)]
    assert Path("out.jsonl").read_text(encoding="utf-8") == exported


def test_what_is_whole_of_a_damaged_journal_is_salvaged(here):
    """The changed record is named and runs again; the others come back from the copy."""
    assert here
    run(*mapped("-q"))
    connection = sqlite3.connect("run.db")
    connection.execute("UPDATE task SET value = x'31' WHERE key = '4'")
    connection.commit()
    connection.close()
    refused, _, why = run(*mapped("--resume"))
    code, told, _ = run("salvage", "run.db", "-o", "new.db")
    again, out, _ = run("map", "functions:work", "in.jsonl", "--journal", "new.db", "--resume")

    assert (refused, "stratagem salvage" in why) == (65, True)
    assert code == 0
    assert "9 records copied to " in told
    assert "1 lost: task '4'" in told
    assert again == 1
    assert [line["index"] for line in records(out) if not line.get("recalled")] == [4, 5, 6]
    assert ran().count(4) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("map", "functions:work", "in.jsonl", "--resume"), 2, "--resume needs the journal"),
        (mapped("--resume"), 2, "nothing to resume"),
        (("runs", "run.db"), 74, "there is no such file"),
        (("export", "functions.py"), 65, "file is not a database"),
        (("runs", "."), 65, "no regular file"),
        (("export", "in.jsonl", "-o", "in.jsonl"), 2, "are the same file"),
        (("salvage", "in.jsonl", "-o", "functions.py"), 65, "name a new file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(here, arguments, code, why):
    """And no file is touched."""
    Path("functions.py").chmod(0o600)
    before = {one.name: one.read_bytes() for one in here.iterdir()}
    found, out, err = run(*arguments)

    assert (found, out) == (code, "")
    assert why in err
    assert len(err.splitlines()) == 1
    after = {one.name: one.read_bytes() for one in here.iterdir() if one.is_file()}
    assert {name: after[name] for name in before} == before


def test_a_second_run_and_a_used_file_are_refused(here):
    """Each with its own exit code; the output is not touched."""
    assert here
    Path("hold").touch()
    Path("out.jsonl").write_text("precious", encoding="utf-8")
    process = start(*mapped())
    until(lambda: len(lines(Path("ledger"))) == 10)
    busy, _, why_busy = run(*mapped("--resume", "-o", "out.jsonl"))
    Path("hold").unlink()
    process.communicate(timeout=PATIENCE)
    used, _, why_used = run(*mapped("--no-resume", "-o", "out.jsonl"))

    assert (busy, f"process {process.pid} on " in why_busy) == (75, True)
    assert (used, "holds a run already" in why_used) == (2, True)
    assert Path("out.jsonl").read_text(encoding="utf-8") == "precious"


def test_the_output_is_no_file_of_the_journal(here):
    """Writing lines would empty it."""
    assert here
    run(*mapped("-q"))
    code, _, why = run(*mapped("-o", "./run.db"))

    assert (code, "same file" in why) == (2, True)
    assert run("runs", "run.db")[0] == 0


@pytest.mark.parametrize("output", ["run.db", "run.db-wal", "run.db-shm", "run.db.lock"])
def test_nor_is_it_one_that_is_not_there_yet(here, output):
    """The journal is made after the output was looked at."""
    assert here
    with pytest.raises(CommandError, match="same file"):
        refuse_same_path("run.db", output)
    refuse_same_path("run.db", f"{output}.jsonl")


def test_a_run_goes_on_where_it_fits(here):
    """The same command again does only what is open, as in code, and says what it recalled."""
    assert here
    run(*mapped())
    code, _, err = run(*mapped())

    assert (code, "8 recalled" in err) == (1, True)
    assert ran() == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 9]


def test_a_run_that_errors_have_stopped_says_how_to_go_on(here):
    """As one that was interrupted does."""
    assert here
    code, _, err = run(*mapped("--max-errors", "1", "-s", "sequential"))

    assert code == 1
    assert "go on with: stratagem map functions:work in.jsonl --journal run.db" in err


def test_what_runs_is_not_said_to_be_in_doubt(here):
    """While a run writes, what it has begun is in flight."""
    assert here
    Path("hold").touch()
    process = start(*mapped("-s", "threads(max_workers=1)"))
    until(lambda: lines(Path("ledger"))[-1:] == ["3"])
    _, told, _ = run("runs", "run.db")
    process.kill()
    process.communicate()
    _, told_later, _ = run("runs", "run.db")

    assert "3 ok, 1 in flight" in told
    assert "in flight: task '3'" in told
    assert ": runs" in told
    assert "3 ok, 1 in doubt" in told_later
    assert ": was cut off" in told_later


def test_a_codec_is_named_in_the_strategy(here):
    """Values of types of one's own come back as that on the command line, too."""
    Path("models.py").write_text(
        "import attrs\n@attrs.define\nclass Answer:\n    text: str\n"
        "def work(item):\n    return Answer(str(item['id']))\n"
        "codec = (attrs.asdict, lambda parts: Answer(**parts))\n",
        encoding="utf-8",
    )
    strategy = "journal(threads, path='run.db', codec='models:codec')"
    again = [run("map", "models:work", "in.jsonl", "-s", strategy) for _ in range(2)]

    assert [code for code, _, _ in again] == [0, 0]
    values = [[line["value"] for line in records(out)] for _, out, _ in again]
    assert values == [[{"text": str(number)} for number in range(10)]] * 2
    assert "10 recalled" in again[1][2]
    assert here
