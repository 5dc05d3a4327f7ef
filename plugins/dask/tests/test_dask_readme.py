"""The page of the plugin: what it shows runs, and what there is stands in it."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stratagem import Engine
from stratagem.testing.waiting import PATIENCE
from stratagem_dask import DaskStrategy

PAGE = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```python\n(.*?)^```\n\n```output\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("program", "output"), FENCED.findall(PAGE))
def test_each_program_prints_what_the_page_says(program, output, tmp_path):
    """Each block is a whole program."""
    script = tmp_path / "script.py"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )

    assert done.stdout == output


def test_no_program_is_left_out():
    """There is one, and it says what it prints."""
    assert PAGE.count("```python") == len(FENCED.findall(PAGE)) == 1


def test_the_specs_of_the_page_can_be_made():
    """Those in text, and the table of TOML; nothing is reached before the first task."""
    indented = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
    specs = [line for line in indented if re.match(r"(dask$|dask\(|retry\()", line)]
    (table,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    with Engine() as engine:
        for spec in [*specs, tomllib.loads(table)["tool"]["stratagem"]["strategy"]]:
            engine.strategy(spec).close()

    assert len(specs) == 4


def test_the_options_of_the_page_are_those_there_are():
    """Each has its row, with its default, in the order of the signature."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)
    truth = inspect.signature(DaskStrategy).parameters

    assert [name for name, _ in rows] == list(truth)
    assert [ast.literal_eval(default) for _, default in rows] == [
        parameter.default for parameter in truth.values()
    ]
