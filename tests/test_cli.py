"""Check the command line from outside: real processes, their streams, files and exit codes."""

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.once

PATIENCE = 60

FUNCTIONS = """
    import atexit, os, subprocess, sys, threading, time
    import attrs

    class Answer:
        pass

    @attrs.define
    class Point:
        x: int
        y: object

    class asks:
        @staticmethod
        def twice(item):
            return item * 2

    def echo(item):
        return item

    async def echo_async(item):
        return item

    def refuse_odd(item):
        if item % 2:
            raise ValueError(f"odd: {item}")
        return item

    def complain(said):
        raise ValueError(said)

    def long_complaint(item):
        raise ValueError("x" * 100_000)

    def three_kinds(item):
        raise [KeyError, ValueError, OSError, TypeError][item % 4](item)

    def point(item):
        return Point(item, {3})

    def answer(item):
        return Answer()

    def nan(item):
        return float("nan")

    def exit_now(item):
        sys.exit(3)

    def loud(item):
        print("from print")
        os.write(1, b"from descriptor\\n")
        subprocess.run(["echo", "from child"])
        return item

    def read_stdin(item):
        return sys.stdin.read()

    def wait_for_file(item):
        if isinstance(item, str):
            while not os.path.exists(item):
                time.sleep(0.005)
        return item

    def block(item):
        if item == "block":
            threading.Event().wait()
        os.write(2, f"{item}\\n".encode())
        return item

    def hold(item):
        if item:
            with open(item) as gate:
                return gate.read()
        return item

    def sized(item):
        return item

    @atexit.register
    def tell_size():
        if "TELL_SIZE" in os.environ:
            with open("/proc/self/status") as status:
                size = next(line for line in status if line.startswith("VmHWM"))
            with open(os.environ["TELL_SIZE"], "w") as told:
                told.write(size.split()[1])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with the functions that are mapped."""
    (tmp_path / "functions.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRATAGEM_STRATEGY", raising=False)
    return tmp_path


def command(*arguments: str) -> list[str]:
    """Give the words that start the command line."""
    return [sys.executable, "-m", "stratagem", *arguments]


def run(*arguments: str, stdin: str = "", **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def start(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start the command line, to be talked to."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the end of a process; give its code and the rest of its streams."""
    with process:
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def records(text: str) -> list[dict[str, Any]]:
    """Read lines of JSON, each of which must be whole."""
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def write_items(path: Path, *items: Any) -> str:
    """Write items as JSON lines; give the path."""
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return str(path)


# What comes out


def test_each_outcome_is_one_line(here: Path) -> None:
    """A line has index, key, status, value, seconds and attempts, in this order."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl", {"a": 1}, "b"))

    first, second = records(done.stdout)
    assert done.returncode == 0
    assert list(first) == ["index", "key", "status", "value", "seconds", "attempts"]
    assert first["value"] == {"a": 1}
    assert (second["index"], second["key"], second["status"]) == (1, "1", "ok")
    assert (second["value"], second["attempts"]) == ("b", 1)


def test_failed_tasks_are_lines_too(here: Path) -> None:
    """A failure is delivered with type and message, and makes the exit code 1."""
    done = run("map", "functions:refuse_odd", write_items(here / "in.jsonl", 0, 1, 2))

    lines = records(done.stdout)
    assert done.returncode == 1
    assert [line["status"] for line in lines] == ["ok", "error", "ok"]
    assert lines[1]["error"] == {"type": "ValueError", "message": "odd: 1"}
    assert "value" not in lines[1]


def test_a_long_message_is_cut(here: Path) -> None:
    """No error makes a line of more than a few kilobytes."""
    done = run("map", "functions:long_complaint", write_items(here / "in.jsonl", 1))

    message = records(done.stdout)[0]["error"]["message"]
    assert 4096 <= len(message) < 4200


def test_secrets_in_messages_of_errors_are_masked(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what has the shape of a key nor what the environment keeps is in line or summary."""
    monkeypatch.setenv("HOUSE_TOKEN", "a word of the house")
    key = "sk-" + 20 * "x"
    said = f"{key} refused, and {os.environ['HOUSE_TOKEN']!r} too"

    done = run("map", "functions:complain", write_items(here / "in.jsonl", said))

    message = records(done.stdout)[0]["error"]["message"]
    assert message == "[redacted] refused, and '[redacted]' too"
    assert message in done.stderr
    assert key not in done.stdout + done.stderr


def test_a_task_that_exits_is_a_failed_task(here: Path) -> None:
    """`sys.exit` in a task ends that task alone."""
    done = run("map", "functions:exit_now", write_items(here / "in.jsonl", 1, 2))

    assert done.returncode == 1
    assert [line["error"]["type"] for line in records(done.stdout)] == ["SystemExit"] * 2


def test_records_become_objects(here: Path) -> None:
    """A value of a record class is written as its fields, a set as a list."""
    done = run("map", "functions:point", write_items(here / "in.jsonl", 7))

    assert records(done.stdout)[0]["value"] == {"x": 7, "y": [3]}


@pytest.mark.parametrize(("name", "shown"), [("answer", "Answer"), ("nan", "nan")])
def test_a_value_without_json_form_is_an_error_that_shows_it(
    here: Path, name: str, shown: str
) -> None:
    """What cannot be written as JSON is reported with its type, and its repr is kept."""
    done = run("map", f"functions:{name}", write_items(here / "in.jsonl", 1))

    (line,) = records(done.stdout)
    assert done.returncode == 1
    assert line["status"] == "error"
    assert line["error"]["type"].endswith("TransportError")
    assert shown in line["error"]["repr"]
    assert "cannot be written as JSON" in line["error"]["message"]


def test_lines_come_in_input_order(here: Path) -> None:
    """A slow first task holds its followers' lines back, not their work."""
    source = write_items(here / "in.jsonl", str(here / "gate"), 1, 2, 3)
    process = start("map", "functions:wait_for_file", source, "-s", "threads")

    (here / "gate").touch()
    code, out, _ = finish(process)

    assert code == 0
    assert [line["index"] for line in records(out)] == [0, 1, 2, 3]


def test_unordered_lines_come_as_tasks_end(here: Path) -> None:
    """With --unordered a line is out before a slow task ahead of it ends."""
    gate = here / "gate"
    source = write_items(here / "in.jsonl", str(gate), 1)
    process = start("map", "functions:wait_for_file", source, "--unordered", "-s", "threads")

    assert process.stdout is not None
    first = process.stdout.readline()
    gate.touch()
    code, rest, _ = finish(process)

    assert code == 0
    assert [line["index"] for line in records(first + rest)] == [1, 0]


def test_a_line_is_out_while_the_run_waits(here: Path) -> None:
    """A finished line is not held back until more come."""
    assert here
    process = start("map", "functions:echo", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    process.stdin.write("1\n")
    process.stdin.flush()
    first = process.stdout.readline()
    code, rest, _ = finish(process)

    assert code == 0
    assert json.loads(first)["value"] == 1
    assert not rest


def test_output_goes_to_a_file(here: Path) -> None:
    """With -o the lines replace what was in the file, and stdout is left to the tasks."""
    target = here / "out.jsonl"
    target.write_text("old\n")

    done = run("map", "functions:loud", write_items(here / "in.jsonl", 1), "-o", str(target))

    assert done.returncode == 0
    assert [line["value"] for line in records(target.read_text())] == [1]
    assert "from child" in done.stdout


def test_a_run_that_cannot_begin_leaves_old_output_alone(here: Path) -> None:
    """A typing error does not cost the answers of the last run."""
    target = here / "out.jsonl"
    target.write_text("old\n")
    source = write_items(here / "in.jsonl", 1)

    codes = [
        run("map", "functions:nope", source, "-o", str(target)).returncode,
        run("map", "functions:echo", source, "-o", str(target), "-s", "nope").returncode,
        run("map", "functions:echo", source, "-o", source).returncode,
    ]

    assert codes == [2, 2, 2]
    assert target.read_text() == "old\n"
    assert Path(source).read_text() == "1\n"


@pytest.mark.parametrize("strategy", ["sequential", "threads", "asyncio", "processes"])
def test_stdout_holds_nothing_but_lines(here: Path, strategy: str) -> None:
    """What tasks, their descriptors and their children print goes to stderr."""
    done = run("map", "functions:loud", write_items(here / "in.jsonl", 1, 2), "-s", strategy)

    assert done.returncode == 0
    assert [line["value"] for line in records(done.stdout)] == [1, 2]
    for source in ("print", "descriptor", "child"):
        assert done.stderr.count(f"from {source}") == 2


# What goes in


def test_jsonl_skips_blank_lines(here: Path) -> None:
    """Each line that is not blank is one JSON value; a byte order mark is no part of it."""
    (here / "in.ndjson").write_text('\ufeff{"a": 1}\n\n  \n[2]\nnull', encoding="utf-8")

    done = run("map", "functions:echo", "in.ndjson")

    assert [line["value"] for line in records(done.stdout)] == [{"a": 1}, [2], None]


def test_csv_rows_are_dicts(here: Path) -> None:
    """A row of CSV is a dict by the header; a quoted field may span lines."""
    (here / "in.csv").write_text('id,text\n1,"two\nlines"\n2,\n')

    done = run("map", "functions:echo", "in.csv", "--key", "id")

    lines = records(done.stdout)
    assert [line["key"] for line in lines] == ["1", "2"]
    assert [line["value"]["text"] for line in lines] == ["two\nlines", ""]


def test_other_files_are_lines_of_text(here: Path) -> None:
    """Any other file is text: an item is a line without its end, also an empty one."""
    (here / "in.txt").write_bytes(b"one\r\n\n  three \nlast")

    done = run("map", "functions:echo", "in.txt")

    assert [line["value"] for line in records(done.stdout)] == ["one", "", "  three ", "last"]


def test_white_space_around_a_value_is_no_part_of_it(here: Path) -> None:
    """JSON may stand anywhere in its line, and the last line needs no end."""
    (here / "in.jsonl").write_bytes(b' 1\n2 \r\n\t[3]\t\n"4"\r\n5')

    done = run("map", "functions:echo", "in.jsonl")

    assert [line["value"] for line in records(done.stdout)] == [1, 2, [3], "4", 5]


def test_stdin_is_jsonl_unless_said(here: Path) -> None:
    """`-` reads stdin, as JSONL by default and as --format says."""
    assert here

    plain = run("map", "functions:echo", "-", stdin='{"a": 1}\n')
    text = run("map", "functions:echo", "-", "--format", "text", stdin="a,b\n1,2\n")
    table = run("map", "functions:echo", "-", "--format", "csv", stdin="a,b\n1,2\n")

    assert [line["value"] for line in records(plain.stdout)] == [{"a": 1}]
    assert [line["value"] for line in records(text.stdout)] == ["a,b", "1,2"]
    assert [line["value"] for line in records(table.stdout)] == [{"a": "1", "b": "2"}]


def test_tasks_cannot_eat_the_input(here: Path) -> None:
    """A task that reads stdin finds it empty."""
    assert here

    done = run("map", "functions:read_stdin", "-", stdin="1\n2\n3\n")

    assert [line["value"] for line in records(done.stdout)] == ["", "", ""]


def test_an_empty_input_is_no_error(here: Path) -> None:
    """Nothing to do is done well."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl"))

    assert (done.returncode, done.stdout) == (0, "")
    assert "0 tasks" in done.stderr


def test_limit_reads_no_further(here: Path) -> None:
    """With --limit bad lines behind the last wanted one are not looked at."""
    (here / "in.jsonl").write_text("1\n2\n{bad\n")

    done = run("map", "functions:echo", "in.jsonl", "--limit", "2")

    assert done.returncode == 0
    assert [line["value"] for line in records(done.stdout)] == [1, 2]


BAD_INPUTS = [
    ("in.jsonl", b'{"a": 1}\n\n{bad\n{"a": 2}\n', 3, "not JSON"),
    ("in.jsonl", b'{"a": 1}\n{"a": 1} 2\n', 2, "not JSON: Extra data, at column 10"),
    ("in.jsonl", b'{"a": 1}\n  {"a" 2}\n', 2, "at column 8"),
    ("in.jsonl", b'{"a": 1}\n{"a": NaN}\n', 2, "NaN is not JSON"),
    ("in.jsonl", b'{"a": 1}\n' + b"[" * 200_000 + b"\n", 2, "nested"),
    ("in.jsonl", b'{"a": 1}\n"\xff"\n', 2, "not UTF-8"),
    ("in.jsonl", b'{"a": 1}\n"' + b"x" * (16 * 2**20) + b'"\n', 2, "16 MiB"),
    ("in.jsonl", b'{"a": 1}\n{"b": 1}\n', 2, "no field 'a'"),
    ("in.jsonl", b'{"a": 1}\n{"a": [1]}\n', 2, "text or a number"),
    ("in.csv", b"a,b\n1,2\n1,2,3\n", 3, "more fields"),
    ("in.csv", b'a,b\n1,2\n1,"2\n', 3, "not CSV"),
]


@pytest.mark.parametrize(("name", "content", "number", "problem"), BAD_INPUTS)
def test_bad_input_is_named_by_line_after_what_went_before(
    here: Path, name: str, content: bytes, number: int, problem: str
) -> None:
    """What was read before a bad line is delivered; the message names file and line."""
    (here / name).write_bytes(content)

    done = run("map", "functions:echo", name, "--key", "a")

    assert done.returncode == 2
    assert len(records(done.stdout)) == 1
    assert f"{name}, line {number}: " in done.stderr
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_a_header_that_names_a_column_twice_is_refused(here: Path) -> None:
    """No column of a CSV file is lost behind another of its name."""
    (here / "in.csv").write_text("a,a\n1,2\n")

    done = run("map", "functions:echo", "in.csv")

    assert done.returncode == 2
    assert "in.csv, line 1: the header names 'a' twice" in done.stderr


def test_a_key_given_twice_is_bad_input(here: Path) -> None:
    """Keys name tasks, so two lines may not have one key."""
    source = write_items(here / "in.jsonl", {"id": 1}, {"id": 2}, {"id": 1})

    done = run("map", "functions:echo", source, "--key", "id")

    assert done.returncode == 2
    assert [line["key"] for line in records(done.stdout)] == ["1", "2"]
    assert "same key '1'" in done.stderr


# What is asked for


def explained(*arguments: str, stdin: str = "") -> str:
    """Give the one sentence of a command that cannot run."""
    done = run(*arguments, stdin=stdin)
    assert done.returncode == 2
    assert not done.stdout
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_what_is_wrong_with_a_function_is_said_in_a_sentence(here: Path) -> None:
    """Each mistake in FUNCTION has its own words."""
    source = write_items(here / "in.jsonl", 1)

    assert "write module:name" in explained("map", "functions", source)
    assert "no module named 'nope'" in explained("map", "nope:echo", source)
    assert "no such file: nope.py" in explained("map", "nope.py:echo", source)
    assert "did you mean 'echo'" in explained("map", "functions:ecko", source)
    assert "cannot be called" in explained("map", "functions:os", source)


def test_an_import_that_raises_names_the_line(here: Path) -> None:
    """The user's own error is told with its last line and its place, without a traceback."""
    source = write_items(here / "in.jsonl", 1)
    (here / "broken.py").write_text("x = 1\ny = x / 0\n")
    (here / "misspelt.py").write_text("import no_such_thing\n")
    (here / "unreadable.py").write_text("x = (\n")

    for function in ("broken:y", "broken.py:y"):
        sentence = explained("map", function, source)
        assert "ZeroDivisionError: division by zero" in sentence
        assert "broken.py:2" in sentence
    assert "No module named 'no_such_thing'" in explained("map", "misspelt:x", source)
    assert "unreadable.py:1" in explained("map", "unreadable.py:x", source)


def test_a_function_may_be_an_attribute(here: Path) -> None:
    """The name behind the colon may have dots."""
    done = run("map", "functions:asks.twice", write_items(here / "in.jsonl", 21))

    assert records(done.stdout)[0]["value"] == 42


@pytest.mark.parametrize(
    "name", ["plain.py", "json.py", "pluggy.py", "with-dash.py", "pkg/part.py"]
)
@pytest.mark.parametrize("strategy", ["asyncio", "processes"])
def test_a_function_of_a_file_travels(
    here: Path, tmp_path_factory: pytest.TempPathFactory, name: str, strategy: str
) -> None:
    """A file may have any name: its function and its classes reach workers and come back."""
    place = tmp_path_factory.mktemp("elsewhere") / name
    place.parent.mkdir(exist_ok=True)
    if "/" in name:
        (place.parent / "__init__.py").touch()
    place.write_text(
        "import attrs, json\n"
        "@attrs.define\n"
        "class Point:\n    x: int\n"
        "def point(item):\n    return Point(json.loads(json.dumps(item)))\n"
        "async def point_async(item):\n    return point(item)\n"
    )
    source = write_items(here / "in.jsonl", 1, 2)

    for function in ("point", "point_async"):
        done = run("map", f"{place}:{function}", source, "-s", strategy)
        assert [line.get("value", line) for line in records(done.stdout)] == [{"x": 1}, {"x": 2}]


def test_what_is_wrong_with_a_run_is_said_in_a_sentence(here: Path) -> None:
    """Whatever keeps a run from beginning has its own words, and exit code 2."""
    source = write_items(here / "in.jsonl", 1)

    unknown = explained("map", "functions:echo", source, "-s", "thread")
    assert "unknown strategy 'thread'" in unknown
    assert "known are: threads, " in unknown
    assert "asyncio" in unknown
    options = explained("map", "functions:echo", source, "-s", "threads(max_worker=1)")
    assert "max_workers" in options
    timeout = explained("map", "functions:echo", source, "-s", "sequential", "--timeout", "1")
    assert "takes no timeout" in timeout
    assert "nope.jsonl cannot be opened" in explained("map", "functions:echo", "nope.jsonl")
    nowhere = explained("map", "functions:echo", source, "-o", "no/such/place")
    assert "no/such/place cannot be opened" in nowhere


@pytest.mark.parametrize("option", ["--limit=0", "--max-errors=0", "--format=xml", "--nope"])
def test_an_option_that_makes_no_sense_is_bad_usage(here: Path, option: str) -> None:
    """It is refused with exit code 2, by its name, in one line that leads to the help."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl", 1), option)

    assert done.returncode == 2
    assert not done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith("stratagem: ")
    assert option.partition("=")[0] in said
    assert "--help` lists what there is" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mapp"], "invalid choice: 'mapp'"),
        (["map", "functions:echo"], "required: INPUT"),
        (["strategies", "x"], "unrecognized arguments: x"),
        (["map", "functions:echo", "in.jsonl", "--strat", "threads"], "--strat"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_bad_usage(arguments: list[str], said: str) -> None:
    """What is unknown, missing, too much or cut short is said, with exit code 2."""
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_no_command_at_all_shows_the_help() -> None:
    """`stratagem` alone lists the commands; it is bad usage all the same."""
    done = run()

    assert done.returncode == 2
    assert done.stdout == run("--help").stdout


def test_options_and_arguments_may_stand_in_any_order(here: Path) -> None:
    """Options may stand before, between and behind FUNCTION and INPUT."""
    source = write_items(here / "in.jsonl", 1, 2)

    done = run("map", "--limit", "1", "functions:echo", "-s=sequential", source, "-o", "-")

    assert [line["value"] for line in records(done.stdout)] == [1]


def test_a_timeout_ends_a_task(here: Path) -> None:
    """A task that runs past --timeout is a line with that status."""
    source = write_items(here / "in.jsonl", "block", "go")

    done = run("map", "functions:block", source, "-s", "threads", "--timeout", "0.5")

    assert done.returncode == 1
    assert [line["status"] for line in records(done.stdout)] == ["timeout", "ok"]


def test_max_errors_stops_a_run(here: Path) -> None:
    """After --max-errors failures nothing more begins, and what was done is written."""
    source = write_items(here / "in.jsonl", *range(100))

    done = run("map", "functions:refuse_odd", source, "-s", "sequential", "--max-errors", "2")

    assert done.returncode == 1
    assert [line["index"] for line in records(done.stdout)] == [0, 1, 2, 3]
    assert "--max-errors" in done.stderr


# What is said


def test_a_summary_tells_what_failed(here: Path) -> None:
    """The last lines on stderr count, and show three kinds of failure with an example each."""
    done = run("map", "functions:three_kinds", write_items(here / "in.jsonl", *range(9)))

    summary = [line for line in done.stderr.splitlines() if line.startswith("stratagem: ")]
    assert "9 tasks in" in summary[0]
    assert "9 error" in summary[0]
    assert "3 x KeyError, first with key '0': 0" in summary[1]
    assert "2 x" in summary[2]
    assert summary[4] == "stratagem: and 1 other kinds of failure"


def test_quiet_says_nothing(here: Path) -> None:
    """With --quiet a run that goes well leaves stderr empty."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl", 1), "--quiet")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_a_closed_stream_costs_nothing(here: Path, closed: str) -> None:
    """A run whose words nobody can read runs all the same, and mixes nothing up."""
    source = write_items(here / "in.jsonl", 1)
    words = " ".join(command("map", "functions:loud", source))

    done = subprocess.run(
        f"{words} {closed}",
        shell=True,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )

    assert [line["value"] for line in records(done.stdout)] == [1]


def test_progress_is_shown_on_a_terminal(here: Path) -> None:
    """When stderr is a terminal a bar counts what is done and what failed."""
    source = write_items(here / "in.jsonl", *range(10))
    ours, theirs = pty.openpty()
    words = command("map", "functions:refuse_odd", source, "-o", "out.jsonl")
    with subprocess.Popen(
        words, stderr=theirs, env={**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    ):
        os.close(theirs)
        shown = read_terminal(ours)

    assert "refuse_odd" in shown
    assert "10 done, 5 failed" in shown
    assert "100%" in shown
    assert "10 tasks in" in shown.splitlines()[-2]


def read_terminal(descriptor: int) -> str:
    """Read what is written to a terminal until nobody has it open."""
    seen = b""
    try:
        while block := os.read(descriptor, 65536):
            seen += block
    except OSError:  # the way in which Linux says that the other end is closed
        pass
    os.close(descriptor)
    return seen.decode()


# How it ends


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_writes_what_was_done(
    here: Path, signum: signal.Signals, code: int
) -> None:
    """What ended behind a task that still runs is written too, in whole lines, in order."""
    source = write_items(here / "in.jsonl", "a", "block", "b", "c", "d")
    process = start("map", "functions:block", source, "-s", "threads(grace=0.2)", "-o", "out.jsonl")
    assert process.stderr is not None
    ended = {process.stderr.readline().strip() for _ in range(4)}

    process.send_signal(signum)
    returned, _, err = finish(process)

    lines = records((here / "out.jsonl").read_text())
    assert ended == {"a", "b", "c", "d"}
    assert returned == code
    assert [(line["index"], line["status"]) for line in lines] == [
        (0, "ok"),
        (1, "cancelled"),
        (2, "ok"),
        (3, "ok"),
        (4, "ok"),
    ]
    assert f"interrupted by {signum.name}: 5 tasks" in err
    assert "Traceback" not in err


def test_an_interrupt_ends_a_run_that_waits_for_input(here: Path) -> None:
    """A pipe that gives nothing more does not hold the end up."""
    assert here
    process = start("map", "functions:echo", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("1\n")
    process.stdin.flush()
    first = process.stdout.readline()

    process.send_signal(signal.SIGINT)
    code = process.wait(PATIENCE)
    _, _, err = finish(process)

    assert json.loads(first)["value"] == 1
    assert code == 130
    assert "interrupted by SIGINT: 1 task " in err
    assert "Fatal" not in err


def test_a_killed_run_leaves_whole_lines(here: Path) -> None:
    """After SIGKILL what was done before the last moment stands in the file."""
    process = start("map", "functions:echo", "-", "-o", "out.jsonl", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("1\n2\n")
    process.stdin.flush()
    target = here / "out.jsonl"
    while not (target.exists() and target.stat().st_size):
        assert process.poll() is None

    process.kill()
    finish(process)

    assert [line["value"] for line in records(target.read_text())] == [1, 2]


def test_a_reader_that_leaves_ends_the_run_quietly(here: Path) -> None:
    """Like any filter in a pipe: exit code 141, and not a word."""
    source = write_items(here / "in.jsonl", *range(20_000))
    process = start("map", "functions:echo", source)
    assert process.stdout is not None

    first = process.stdout.readline()
    process.stdout.close()
    with process:
        assert process.stderr is not None
        err = process.stderr.read()

    assert json.loads(first)["index"] == 0
    assert (process.returncode, err) == (141, "")


def test_a_reader_that_leaves_ends_a_run_that_waits(here: Path) -> None:
    """A run notices that nobody reads while a task blocks for ever."""
    gate = here / "gate"
    os.mkfifo(gate)
    process = start(
        "map", "functions:hold", "-", "-s", "threads(grace=0)", "--unordered", stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f'""\n"{gate}"\n')
    process.stdin.flush()
    process.stdout.readline()

    process.stdout.close()
    process.stdin.write('""\n')
    process.stdin.flush()
    code = process.wait(PATIENCE)
    with process:
        assert process.stderr is not None
        err = process.stderr.read()

    assert code == 141
    assert "stratagem: " not in err
    assert "Traceback" not in err


def test_a_full_disk_is_said(here: Path) -> None:
    """Output that cannot be written ends the run with words, not with a traceback."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl", 1), "-o", "/dev/full")

    assert done.returncode == 2
    assert "/dev/full cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_does_not_grow_with_the_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand lines of a kilobyte need hardly more memory than a thousand."""
    sizes = []
    for count in (1_000, 100_000):
        source = here / f"{count}.jsonl"
        source.write_text("".join(f'{{"id": {i}, "text": "{"x" * 1000}"}}\n' for i in range(count)))
        monkeypatch.setenv("TELL_SIZE", str(here / "size"))

        done = run("map", "functions:sized", str(source), "-s", "threads", "-o", "out.jsonl")

        assert done.returncode == 0
        sizes.append(int((here / "size").read_text()))

    small, large = sizes
    with (here / "out.jsonl").open() as lines:
        assert [json.loads(line)["index"] for line in lines] == list(range(100_000))
    assert large - small < 20_000


# What is installed


def test_strategies_are_listed() -> None:
    """Each strategy has a line of its own: name, distribution, summary, what it can do."""
    done = run("strategies")

    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert rows[0] == ["strategy", "distribution", "summary", "can"]
    assert {"asyncio", "processes", "sequential", "threads"} <= {row[0] for row in rows}
    assert ["threads", "stratagem", "in threads, for I/O", "timeouts"] in rows


@pytest.fixture
def broken_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution whose plugin raises when it is imported."""
    metadata = tmp_path / "patient-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: patient\nVersion: 2.5\n")
    (metadata / "entry_points.txt").write_text("[stratagem]\npatient = patient_plugin\n")
    (tmp_path / "patient_plugin.py").write_text("1 / 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_a_row() -> None:
    """A plugin that cannot be loaded is listed with the reason, and spoils nothing."""
    done = run("plugins")

    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert ["patient", "patient", "2.5", "failed", "ZeroDivisionError: division by zero"] in rows
    assert ["builtin", "stratagem", rows[1][2], "loaded", ""] in rows
    assert not done.stderr


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_a_warning_of_a_run(here: Path) -> None:
    """A run says in a line which plugin is missing, and goes on."""
    done = run("map", "functions:echo", write_items(here / "in.jsonl", 1))

    assert done.returncode == 0
    assert done.stderr.startswith("stratagem: warning: plugin 'patient'")


def test_version_and_help() -> None:
    """The command tells its version, its commands, and how to use them."""
    version, top, usage = run("--version"), run("--help"), run("map", "--help")

    assert version.stdout.startswith("stratagem ")
    assert [version.returncode, top.returncode, usage.returncode] == [0, 0, 0]
    for word in ("map", "strategies", "plugins"):
        assert word in top.stdout
    for word in ("FUNCTION", "INPUT", "--strategy", "--unordered", "--timeout"):
        assert word in usage.stdout


def test_the_console_script_is_the_same(here: Path) -> None:
    """`stratagem` finds modules in the current directory, as `python -m stratagem` does."""
    script = Path(sys.executable).with_name("stratagem")
    source = write_items(here / "in.jsonl", 5)

    done = subprocess.run(
        [script, "map", "functions:echo", source, "-s", "processes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert records(done.stdout)[0]["value"] == 5


@pytest.mark.parametrize("command", ["--help", "--version", "strategies", "plugins"])
def test_a_short_command_imports_nothing_for_the_long_ones(command: str) -> None:
    """What shows progress, writes logs, keeps journals or runs tasks elsewhere stays away."""
    code = """
import sys
from stratagem.cli import main
try:
    main()
finally:
    loaded = {name.partition(".")[0] for name in sys.modules}
    heavy = {"dask", "pydantic", "ray", "rich", "sqlite3", "structlog", "tenacity"}
    print(sorted(loaded & heavy), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, command],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )

    assert done.stderr == "[]\n"


def test_the_library_does_not_import_the_command_line() -> None:
    """`import stratagem` costs neither argparse, rich nor structlog."""
    code = "import sys, stratagem; print({'argparse', 'rich', 'structlog'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert done.stdout.strip() == "set()"
