"""The page of the plugin: what it shows runs, and what there is stands in it."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from stratagem import Engine
from stratagem_ray import RayStrategy

PAGE = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```python\n(.*?)^```\n\n```output\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_program_prints_what_the_page_says(tmp_path):
    """It is a whole program, and it starts and ends a Ray of its own."""
    ((program, output),) = FENCED.findall(PAGE)
    script = tmp_path / "script.py"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=True
    )

    assert done.stdout == output


def test_the_specs_of_the_page_can_be_made():
    """Those in text, and the table of TOML."""
    indented = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
    specs = [line for line in indented if re.match(r"(ray|retry)\(", line)]
    (table,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    with Engine() as engine:
        for spec in [*specs, tomllib.loads(table)["tool"]["stratagem"]["strategy"]]:
            engine.strategy(spec).close()

    assert len(specs) == 3


def test_the_options_of_the_page_are_those_there_are():
    """Each has its row, in the order of the signature."""
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)

    assert rows == list(inspect.signature(RayStrategy).parameters)
