"""The engine of the documentation: it works as the page says, and keeps what is asked of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="it hands pipes to its workers"),
]

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "engines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python notest\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE = 100
CHOSEN = "nested_in_itself or own_process or events_of or endless or closing_settles or no_thread"
"""The whole suite takes a minute, mostly to start workers."""


@pytest.fixture
def home(tmp_path):
    """Install the engine of the page, as far as finding it by name goes."""
    module = [block for block in BLOCKS if "pytest" not in block and "Engine(" not in block]
    (tmp_path / "stratagem_pool.py").write_text("\n\n".join(module), encoding="utf-8")
    metadata = tmp_path / "stratagem_pool-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: stratagem-pool\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[stratagem]\npool = stratagem_pool\n", encoding="utf-8"
    )
    return tmp_path


def run(home, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STRATAGEM_")}
    given = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=home,
        env=clean | {"PYTHONPATH": os.pathsep.join(given)},
    )


def test_the_program_of_the_page_prints_what_it_says(home):
    """One task kills its worker: it alone is lost, and children run."""
    (program,) = [block for block in BLOCKS if "Engine(" in block]
    (output,) = re.findall(r"^```output\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (home / "script.py").write_text(program, encoding="utf-8")

    done = run(home, "script.py")

    assert done.stdout == output, done.stderr[-4000:]


def test_the_engine_of_the_page_conforms(home):
    """What is hardest of the suite: crashes, what never returns, nesting, residue."""
    (test,) = [block for block in BLOCKS if "StrategyConformance" in block]
    (home / "test_pool.py").write_text(test, encoding="utf-8")

    done = run(
        home, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", CHOSEN, "test_pool.py"
    )

    assert done.returncode == 0, done.stdout[-4000:]
