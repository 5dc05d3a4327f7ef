"""The command line: lines of JSON in, lines of JSON out."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.contest import Contender, Contest, Figures, Mark

FEW = 100
LOOP = """
import json, sys
from benchmarks.work import nothing
with open(sys.argv[1]) as lines, open(sys.argv[2], "w") as answers:
    for line in lines:
        print(json.dumps({"value": nothing(json.loads(line))}), file=answers)
"""
Arguments = Callable[[Path, Path], list[str]]


def stratagem_map(lines: Path, answers: Path) -> list[str]:
    function = "benchmarks.work:nothing"
    options = ["--strategy", "threads", "--output", str(answers), "--quiet"]
    return ["-m", "stratagem", "map", function, str(lines), *options]


def plain_loop(lines: Path, answers: Path) -> list[str]:
    return ["-c", LOOP, str(lines), str(answers)]


def watched(program: list[str]) -> tuple[float, float]:
    """Run a program to its end; give its seconds, and the most MB that were seen resident."""
    import psutil

    seen = [0.0]
    began = time.perf_counter()
    with subprocess.Popen(program) as process:

        def watch() -> None:
            with suppress(psutil.Error):
                found = psutil.Process(process.pid)
                while process.returncode is None:
                    seen.append(found.memory_info().rss / 1e6)
                    time.sleep(0.01)

        threading.Thread(target=watch, daemon=True).start()
        code = process.wait()
        seconds = time.perf_counter() - began
    if code != 0:
        raise subprocess.CalledProcessError(code, program)
    return seconds, max(seen)


def over_lines(size: int, arguments: Arguments) -> tuple[float, float]:
    """Run a program over so many lines, as ``watched`` does."""
    with tempfile.TemporaryDirectory() as folder:
        lines, answers = Path(folder, "lines.jsonl"), Path(folder, "answers.jsonl")
        with lines.open("w") as file:
            file.writelines(f'{{"id": {n}, "text": "how are you?"}}\n' for n in range(size))
        found = watched([sys.executable, *arguments(lines, answers)])
        with answers.open() as file:
            assert sum(1 for _ in file) == size
    return found


def contender(arguments: Arguments) -> Contender:
    def run(size: int) -> Figures:
        least_seconds, least = over_lines(FEW, arguments)
        seconds, most = over_lines(size, arguments)
        return {
            "us a line": seconds / size * 1e6,
            f"seconds of {FEW} lines": least_seconds,
            "peak MB": most,
            "MB grown": max(0.0, most - least),
        }

    return run


COMMAND_LINE = [
    Contest(
        "command-line",
        "`stratagem map` of a no-op over lines of JSON, threads; start and end count. "
        f"What grew is over a run of {FEW} lines.",
        100_000,
        20_000,
        {"stratagem map": contender(stratagem_map), "plain loop": contender(plain_loop)},
        [Mark("us a line", 15), Mark("MB grown", 30)],
    ),
]
