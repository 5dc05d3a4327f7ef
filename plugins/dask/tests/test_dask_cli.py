"""``stratagem map -s dask``: lines stay whole, and Ctrl-C stops the run, not its workers."""

import json
import os
import signal
import subprocess
import sys

from stratagem.testing.waiting import lines, until

FUNCTION = """
import time
from pathlib import Path
from stratagem.testing.waiting import note, until

HERE = Path(__file__).parent

def work(text):
    print("a task prints", text)
    note(HERE / "begun", text)
    until((HERE / "gate").exists) if text in {"2", "3"} else None
    return text * 2
"""


def start(tmp_path, rows, spec, stdout, stderr):
    (tmp_path / "work.py").write_text(FUNCTION)
    (tmp_path / "rows.txt").write_text("\n".join(rows))
    command = [sys.executable, "-m", "stratagem", "map", "work.py:work", "rows.txt", "-s", spec]
    return subprocess.Popen(
        command, cwd=tmp_path, stdout=stdout, stderr=stderr, start_new_session=True
    )


def test_what_tasks_print_stays_off_the_lines_of_the_command(tmp_path, cluster):
    """Each line of stdout is one outcome, in input order, also where workers are children."""
    (tmp_path / "gate").touch()
    rows = [str(number) for number in range(20)]
    for spec in (cluster.spec(), "dask(n_workers=1, threads_per_worker=2)"):
        command = start(tmp_path, rows, spec, subprocess.PIPE, subprocess.PIPE)
        stdout, stderr = command.communicate(timeout=60)
        told = [json.loads(line) for line in stdout.splitlines()]

        assert command.returncode == 0, stderr
        assert [row["value"] for row in told] == [row * 2 for row in rows]


def test_an_interrupt_of_the_terminal_stops_the_run_and_gives_tasks_their_grace(tmp_path):
    """It strikes the whole process group; workers made for the run go on until they are told."""
    rows = [str(number) for number in range(50)]
    spec = "dask(n_workers=2, threads_per_worker=1, grace=20)"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        command = start(tmp_path, rows, spec, out, err)
        try:
            until(lambda: {"2", "3"} <= set(lines(tmp_path / "begun")), patience=60)
            os.killpg(command.pid, signal.SIGINT)
            until(lambda: b"interrupted" in (tmp_path / "err").read_bytes())
        finally:
            (tmp_path / "gate").touch()
            code = command.wait(60)
    told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    said = (tmp_path / "err").read_text()

    assert code == 130
    assert "Traceback" not in said
    assert [row["value"] for row in told if row["key"] in {"2", "3"}] == ["22", "33"]
    assert {row["status"] for row in told} == {"ok", "cancelled"}
