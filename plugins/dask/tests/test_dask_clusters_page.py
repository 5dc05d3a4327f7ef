"""The page about clusters: its commands make one, and the interviews run on it."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, Security

import stratagem
from stratagem.testing.waiting import PATIENCE
from stratagem_dask import DaskStrategy

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```python notest\n([^`]*?)^```\n\n```output\n([^`]*?)^```", re.MULTILINE)
ADDRESS = "tls://127.0.0.1:8786"


@pytest.fixture
def home(tmp_path):
    """Be in a directory like the root of a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.fixture
def certificates(home):
    """Make the certificates of the page."""
    if shutil.which("openssl") is None:
        pytest.skip("the page makes certificates by openssl")
    (make,) = [block for block in SHELL if "openssl req" in block]
    subprocess.run(["sh", "-ec", make], cwd=home, check=True, capture_output=True)
    return home / "tls"


@pytest.fixture
def start(home):
    """Start a command of the page; what it starts is ended after the test."""
    started = []

    def start(command):
        line = f"exec env {command}"
        started.append(
            subprocess.Popen(
                ["sh", "-c", line],
                cwd=home,
                env=environment(),
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    yield start
    for process in started:
        os.killpg(process.pid, 9)
        process.wait()


def environment():
    """Have the commands that come with this Python found first."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STRATAGEM_")}
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return clean | {"PATH": found}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(file):
    return [json.loads(line)["value"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_commands_of_the_page_make_a_cluster_that_answers(home, certificates, start):
    """What they print is what the page says, but for the time; values are those of threads."""
    pytest.importorskip("bm25s", reason="the interviews are searched by it")
    port = free_port()
    scheduler, worker, run = (
        block.replace(":8786", f":{port}").replace("--port 8786", f"--port {port}")
        for block in SHELL
        if "8786" in block
    )
    path = os.environ.get("PYTHONPATH", "")
    start(scheduler)
    start(worker.replace("PYTHONPATH=", f"PYTHONPATH={shlex.quote(path)}:"))

    done = subprocess.run(
        ["sh", "-ec", run],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    there = answers(home / "answers.jsonl")
    in_threads = shlex.split(run)[1:-2]
    subprocess.run(
        [sys.executable, "-m", "stratagem", *in_threads, "-s", "threads"],
        cwd=home,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )

    assert re.fullmatch(r"stratagem: 288 tasks in [\d.]+ s: 288 ok\n", done.stderr), done.stderr
    assert len(there) == 288
    assert there == answers(home / "answers.jsonl")


def test_the_table_of_the_page_names_the_same_cluster():
    """The one for a configuration file, and the spec of the command."""
    (table,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (spec,) = re.findall(r'-s "dask\((.*)\)"', PAGE)

    assert dict(re.findall(r"^(\w+) = \"(.*)\"", table, re.MULTILINE)) == {"use": "dask"} | dict(
        re.findall(r"(\w+)='([^']*)'", spec)
    )


def test_the_program_of_the_page_prints_what_it_says(tmp_path):
    """It is whole."""
    ((program, output),) = PROGRAM.findall(PAGE)
    (tmp_path / "script.py").write_text(program, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout == output


@pytest.mark.parametrize("by", ["cluster", "client"])
def test_a_cluster_that_runs_in_this_program_is_used_with_its_certificates(certificates, by):
    """As one of dask-jobqueue is, which is given like this: by itself, or by a client of it."""
    tls = {"tls_ca_file": str(certificates / "ca.pem"), "require_encryption": True}
    for role in ("scheduler", "worker", "client"):
        tls |= {
            f"tls_{role}_cert": str(certificates / "cert.pem"),
            f"tls_{role}_key": str(certificates / "key.pem"),
        }
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            host="127.0.0.1",
            protocol="tls://",
            security=Security(**tls),
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskStrategy(client={"cluster": cluster, "client": client}[by]) as strategy,
    ):
        report = stratagem.map(len, ["one", "three"], strategy=strategy)

        assert cluster.scheduler_address.startswith("tls://")
        assert report.values == [3, 5]
