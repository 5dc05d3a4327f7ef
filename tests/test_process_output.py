"""What tasks print in worker processes, as it arrives where the program prints."""

import os
from collections import Counter

import pytest

pytestmark = pytest.mark.once

PATIENCE = 60.0
METHODS = ["fork", "forkserver", "spawn"]

PROGRAM = """
import logging, os, subprocess, sys, threading
import stratagem

{work}

if __name__ == "__main__":
    logging.getLogger("stratagem").setLevel(logging.ERROR)
    with stratagem.Engine(f"processes(max_workers=2, start_method='{{sys.argv[1]}}')") as engine:
        report = engine.map(work, range(20), key=lambda number: f"task {{number}}")
        print(*[outcome.index for outcome in report.failures], len(report))
"""


@pytest.fixture
def print_in_workers(start_script):
    """Run twenty tasks in two workers; give the lines of stdout and stderr, the last one apart."""

    def print_in(work, method="forkserver"):
        process = start_script(PROGRAM.format(work=work), method)
        printed, complaints = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, complaints
        *lines, last = printed.splitlines()
        return lines, complaints.splitlines(), last

    return print_in


@pytest.mark.parametrize("method", METHODS)
def test_lines_of_two_workers_stay_whole_and_say_whose_they_are(print_in_workers, method):
    """A task that prints in pieces, and one that dies, spoil no line of another."""
    lines, complaints, last = print_in_workers(
        r"""
def work(number):
    for line in range(200):
        print(number, end=" ")
        print("x" * 50, line)
        print("oh", number, file=sys.stderr)
    if number == 7:
        os._exit(1)
""",
        method,
    )

    whole = [f"[task {n}] {n} {'x' * 50} {line}" for n in range(20) for line in range(200)]
    assert Counter(lines) == Counter(whole)
    assert Counter(complaints) == Counter({f"[task {n}] oh {n}": 200 for n in range(20)})
    assert last == "7 20"


def test_a_line_that_a_task_does_not_finish_is_finished_for_it(print_in_workers):
    """Its end does not stand in the line of the next task."""
    lines, complaints, _ = print_in_workers(
        r"""
def work(number):
    print("half", end="", flush=True)
    sys.stderr.write("said")
    sys.stdout.write(" a line")
"""
    )

    assert Counter(lines) == Counter(f"[task {n}] half a line" for n in range(20))
    assert Counter(complaints) == Counter(f"[task {n}] said" for n in range(20))


def test_threads_and_children_of_a_task_print_in_its_name(print_in_workers):
    """Each thread has its own line; nested tasks have their own keys."""
    lines, _, _ = print_in_workers(
        r"""
def work(number):
    def say(word):
        for _ in range(50):
            sys.stdout.write(word)
            sys.stdout.write("!\n")
    threads = [threading.Thread(target=say, args=(word,)) for word in ("hi", "ho")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if number == 3:
        stratagem.nested([lambda: print("child")])
"""
    )

    words = Counter(f"[task {n}] {word}!" for n in range(20) for word in ("hi", "ho") * 50)
    assert Counter(lines) - words == Counter({"[task 3/0] child": 1})


def test_the_streams_can_do_what_standard_streams_can(print_in_workers):
    """Bytes, several lines at once, other encodings, and a descriptor for child processes."""
    lines, _, last = print_in_workers(
        r"""
def work(number):
    if number:
        return
    sys.stdout.reconfigure(encoding="ascii", errors="replace")
    print("caf\u00e9 \u2603")
    sys.stdout.reconfigure(encoding="utf-8")
    print("caf\u00e9")
    sys.stdout.buffer.write(b"bytes\nmore ")
    sys.stdout.buffer.write(b"bytes\n")
    print("a\n\nb")
    print("y" * 100_000)
    os.write(1, b"plain\n")
    subprocess.run(["echo", "from child"], stdout=sys.stdout, check=True)
    assert not sys.stdout.isatty() and sys.stdout.fileno() == 1 and sys.stdout.writable()
"""
    )

    assert lines[0] == "[task 0] caf? ?"
    assert lines[1:] == [
        "[task 0] café",
        "[task 0] bytes",
        "[task 0] more bytes",
        "[task 0] a",
        "[task 0] ",
        "[task 0] b",
        f"[task 0] {'y' * 100_000}",
        "plain",
        "from child",
    ]
    assert last == "20"


def test_a_key_of_any_kind_stays_in_its_line(start_script):
    """Line ends and control characters of a key are escaped, a long one is cut."""
    process = start_script("""
import stratagem

if __name__ == "__main__":
    keys = ["a\\nb", "\\x1b[31m", "k" * 200]
    stratagem.map(print, [1, 2, 3], key=lambda n: keys[n - 1], strategy="processes(max_workers=1)")
""")
    printed, _ = process.communicate(timeout=PATIENCE)

    assert printed.splitlines() == ["[a\\nb] 1", "[\\x1b[31m] 2", f"[{'k' * 80}] 3"]


@pytest.mark.parametrize("closed", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_closed_streams_stay_closed(tmp_path, start_script, method, closed):
    """A program without stdout or stderr has workers without one, and prints harm nobody."""
    ledger = tmp_path / "ledger"
    process = start_script(
        """
import os, sys
from pathlib import Path
import stratagem

def work(number):
    print("nobody hears", number)
    print("nobody hears", number, file=sys.stderr)
    if number == 1:
        os._exit(1)
    return number

if __name__ == "__main__":
    strategy = f"processes(max_workers=1, start_method='{sys.argv[1]}')"
    report = stratagem.map(work, range(3), strategy=strategy)
    Path(sys.argv[2]).write_text(str([outcome.value for outcome in report]))
""",
        method,
        ledger,
        preexec_fn=lambda: os.close(closed),
    )
    process.communicate(timeout=PATIENCE)

    assert ledger.read_text() == "[0, None, 2]"
