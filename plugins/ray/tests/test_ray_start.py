"""A Ray that is started here and ended here, and one of two nodes that loses one, or its head."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray_jobs as jobs

import stratagem
from stratagem.testing import tasks
from stratagem.testing.waiting import PATIENCE, lines, until

OWN = """
import os, signal, sys, tempfile
from contextlib import suppress
from pathlib import Path

import psutil

import stratagem
from stratagem.testing import leftovers, take_stock, tasks

def on_term(*_):
    pass

def listening():
    found = set()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            found |= {c.laddr.ip for c in process.net_connections() if c.status == "LISTEN"}
    found -= {"::"}  # where Ray gives no choice
    return found and all(ip.startswith("127.") for ip in found)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_term)
    stock = take_stock()
    with (
        stratagem.strategy("ray(mode='tasks', n_workers=1)") as one,
        stratagem.strategy("ray") as two,
    ):
        print(one.run_tasks([int]), two.run_tasks([int]), "ray" in sys.modules)
        one.close()
        print(two.run_tasks([int]), listening())
    print(signal.getsignal(signal.SIGTERM) is on_term)
    print([name for name in leftovers(stock) if not name.startswith("descriptor")])
    left = list(Path(tempfile.gettempdir()).glob("stratagem-ray-*"))
    print(left, Path("~/.ray").expanduser().exists())
"""


def test_a_ray_of_our_own_is_shared_and_leaves_nothing(tmp_path):
    """The last strategy ends it; no process, no file, no token, no other handler of a signal."""
    script = tmp_path / "script.py"
    script.write_text(OWN)
    (tmp_path / "t").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "t")}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )

    assert done.stdout.splitlines() == [
        "[0] [0] True",
        "[0] True",
        "True",
        "[]",
        "[] False",
    ], done.stderr


def test_the_plugin_does_not_import_ray():
    """Nor does a strategy that has no task yet."""
    program = (
        "import stratagem, sys; stratagem.strategy('ray').close(); print('ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout == "False\n"


def test_machine_output_stays_clean_when_ray_complains(tmp_path):
    """What Ray prints of a process that died goes to stderr, and so does what tasks print."""
    (tmp_path / "mytask.py").write_text(
        "import os\n\ndef answer(line):\n    print('hello')\n"
        "    return os._exit(3) if line == 'die' else line.upper()\n"
    )
    (tmp_path / "in.txt").write_text("a\ndie\nb\n")
    command = [sys.executable, "-m", "stratagem", "map", "mytask:answer", "in.txt", "-s"]
    done = subprocess.run(
        [*command, "ray(mode='tasks', n_workers=1)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    printed = done.stdout.splitlines()
    assert [line[:30] for line in printed] == [
        f'{{"index": {n}, "key": "{n}", "stat' for n in range(3)
    ]
    assert "lost" in printed[1]
    assert done.returncode == 1


HEAD_LOST = """
import os, sys, time
from pathlib import Path

import psutil

import stratagem
from stratagem import ClusterError

def work(number):
    time.sleep(0 if number < 20 else 60)
    return number

if __name__ == "__main__":
    with stratagem.strategy("ray(n_workers=1, grace=0.5)") as strategy:
        with stratagem.stream_map(work, range(24), strategy=strategy, log="error") as stream:
            first = [next(stream).value for _ in range(20)]
            below = psutil.Process().children(recursive=True)
            next(p for p in below if "gcs_server" in p.name()).kill()
            try:
                list(stream)
            except ClusterError as error:
                print("its head is gone" in str(error))
        print(sorted(first) == list(range(20)), stream.report.counts["ok"])
        print(strategy.run_tasks([int]))
"""


def test_the_loss_of_the_head_ends_the_run_and_not_the_program(tmp_path):
    """The report has what had ended; what we have joined is left before Ray ends the program."""
    script = tmp_path / "script.py"
    script.write_text(HEAD_LOST)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=110, check=False
    )

    assert done.stdout.splitlines()[:3] == ["True", "True 20", "[0]"], done.stderr


@pytest.fixture
def second_node(cluster, tmp_path):
    """Add a node with one CPU to the cluster; give its process."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"]
    command += [f"--address={cluster}", "--node-ip-address=127.0.0.3", '--resources={"far": 1}']
    with (tmp_path / "node").open("w") as output:
        node = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    until(lambda: "Ray runtime started" in (tmp_path / "node").read_text(), 60.0)
    yield node
    _kill(node)


def _kill(node):
    if node.poll() is None:
        for process in psutil.Process(node.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.kill()
        node.wait()


def test_a_node_that_is_lost_costs_what_ran_there(cluster, second_node, tmp_path):
    """All nodes are used; what has not ended with one of them is lost, and nothing else."""
    import ray

    until(lambda: ray.cluster_resources().get("CPU") == 3, 30.0)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    with stratagem.strategy("ray(mode='tasks', grace=0.5)") as strategy:
        calls = [*[partial(jobs.wait_and_tell_node, begun, gate)] * 3, partial(tasks.square, 3)]
        with stratagem.stream(calls, strategy=strategy, log="error") as stream:
            reader = threading.Thread(target=list, args=(stream,))
            reader.start()
            until(lambda: len(lines(begun)) == 3, 60.0)
            _kill(second_node)
            gate.touch()
            reader.join()

    assert stream.report.counts == {"ok": 3, "lost": 1}
    assert "died" in str(next(o.error for o in stream.report if not o.ok))
    assert len({line.split()[1] for line in lines(begun)}) == 2
