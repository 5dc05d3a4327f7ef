"""The words: what the documentation shows runs, and what there is stands in it."""

import ast
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

import stratagem
from stratagem import Engine
from stratagem.plugins import hook_names

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md"]
PATIENCE = 50
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FIRST_TWO_COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install '.[interviews]' && "
    ".venv/bin/stratagem map examples/interviews/answer.py:answer "
    "examples/interviews/asks.jsonl -o answers.jsonl",
    "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox",
]
RUN_PAGE = """
import contextlib, io, sys
page, *blocks = eval(sys.stdin.read())
for line, source, wanted in blocks:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\\n" * line + source, page, "exec"), globals())
    got = [line.rstrip() for line in out.getvalue().strip().splitlines()]
    if wanted is not None and got != wanted:
        raise SystemExit(f"{page}, line {line}: printed {got}, and the page says {wanted}")
"""


@attrs.frozen
class Block:
    """Hold one fenced block: its info string, its text, and the line that its fence stands on."""

    info: str
    body: str
    line: int


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["info"].strip(), found["body"], text[: found.start()].count("\n") + 1)
        for found in FENCE.finditer(text)
    ]


def runnable(page):
    """Give line, source and expected lines of each Python block; what it prints may follow it."""
    blocks = blocks_of(page)
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        if block.info == "python":
            printed = following is not None and following.info == "output"
            yield block.line, block.body, following.body.splitlines() if printed else None


def code_of(page):
    """Give what stands in code spans and blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.body for block in blocks_of(page)]
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))])


def environment(**variables):
    return {k: v for k, v in os.environ.items() if not k.startswith("STRATAGEM_")} | variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_runs_and_prints_what_the_page_says(page, tmp_path):
    """The blocks of a page, run one after another in one program, do what is said of them."""
    blocks = list(runnable(page))
    if not blocks:
        pytest.skip("a page without Python")

    done = subprocess.run(
        [sys.executable, "-c", RUN_PAGE],
        input=repr((page.name, *blocks)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env=environment(STRATAGEM_PLUGINS="retry"),
    )

    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    """Each fenced block names its language, so that none of Python goes untested by a slip."""
    known = {"python", "python notest", "output", "console", "sh", "toml", "text", "json", "pycon"}

    assert [block for block in blocks_of(page) if block.info not in known] == []


@pytest.mark.parametrize("hook", hook_names())
def test_every_hook_is_documented(hook):
    """The page of the hooks has a section for each of them."""
    text = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")

    assert f"\n## `{hook}" in text


@pytest.mark.parametrize("name", stratagem.__all__)
def test_every_public_name_is_documented(name):
    """Each name that the package exports stands, as code, in the documentation."""
    wanted = rf"\bstratagem\.{name}\b" if name.islower() else rf"\b{name}\b"

    assert re.search(wanted, "\n".join(code_of(page) for page in PAGES))


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    """A link within the repository leads to a file, and to a heading where it names one."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    lost = []
    for found in LINK.finditer(text):
        target, _, heading = found["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = page.parent / target if target else page
        if not file.exists() or (heading and heading not in headings_of(file)):
            lost.append(found["target"])

    assert lost == []


def headings_of(page):
    """Give the anchors of a page, made of its headings as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]


def test_the_first_two_commands_of_the_readme_do_the_work_and_the_tests():
    """The README begins with one command that does the main job, and one that proves it all."""
    shell = [block for block in blocks_of(ROOT / "README.md") if block.info == "sh"]
    lines = [line for block in shell for line in block.body.splitlines() if line.strip()]

    assert lines[:2] == FIRST_TWO_COMMANDS


def test_the_answers_shown_in_the_readme_are_those_of_the_example():
    """The lines of answers that the README shows quote the questions and people there are."""
    (block,) = [block for block in blocks_of(ROOT / "README.md") if block.info == "json"]
    asks = (ROOT / "examples" / "interviews" / "asks.jsonl").read_text(encoding="utf-8")
    people = (ROOT / "examples" / "interviews" / "people.jsonl").read_text(encoding="utf-8")
    for line in block.body.splitlines():
        answer = json.loads(line)
        ask = json.loads(asks.splitlines()[answer["index"]])

        assert {"person", "question", "quote", "score"} == answer["value"].keys()
        assert ask.items() <= answer["value"].items()
        assert answer["value"]["quote"] in people


def options_in_page():
    """Give, for each strategy with a section, its options and defaults as the page has them."""
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    row = re.compile(r"^\| `(\w+)` \| (?:`([^`]+)`|required) \|", re.MULTILINE)
    return {
        section.split("`")[1]: {
            name: ast.literal_eval(default) if default else inspect.Parameter.empty
            for name, default in row.findall(section)
        }
        for section in sections
        if section.startswith("`")
    }


def test_the_options_of_strategies_are_those_of_their_constructors():
    """Every strategy of this repository has its options and defaults in the page as in code."""
    with Engine() as engine:
        offers = [
            offer.info
            for offer in engine.plugins.offers()
            if offer.distribution in {"stratagem", "stratagem-retry", "stratagem-hybrid"}
        ]
        truth = {
            info.name: {
                name: parameter.default
                for name, parameter in inspect.signature(info.factory).parameters.items()
                if parameter.kind is not parameter.VAR_KEYWORD
            }
            for info in offers
        }

    assert options_in_page() == truth


def test_the_plugin_of_the_readme_works_when_it_is_installed(tmp_path):
    """The distribution that the README shows builds, installs, and gives its strategy by name."""
    blocks = blocks_of(ROOT / "README.md")
    (project,) = [
        block.body for block in blocks if "[project.entry-points.stratagem]" in block.body
    ]
    (module,) = [block.body for block in blocks if "def stratagem_strategies" in block.body]
    name = tomllib.loads(project)["project"]["entry-points"]["stratagem"]["shuffled"]
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    (source / f"{name}.py").write_text(module, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", installed, source],
        check=True,
        timeout=PATIENCE,
        env=environment(PIP_DISABLE_PIP_VERSION_CHECK="1"),
    )

    program = (
        "import stratagem\n"
        "report = stratagem.map(abs, range(-9, 0), strategy='shuffled(seed=3)')\n"
        "began = sorted(report, key=lambda outcome: outcome.started_at)\n"
        "print(report.values, [o.index for o in began] != list(range(9)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(installed)),
    )

    assert done.stdout.strip() == f"{list(range(9, 0, -1))} True"


def test_the_strategies_of_the_plugin_page_conform(tmp_path):
    """What the page teaches passes the suite that it tells of, by the test module that it shows."""
    blocks = blocks_of(ROOT / "docs" / "plugins.md")
    shown = [block.body for block in blocks if block.info == "python"]
    (test,) = [block.body for block in blocks if "class TestCrew" in block.body]
    offered = next(n for n, body in enumerate(shown) if "def stratagem_strategies" in body)
    (tmp_path / "stratagem_crew.py").write_text("\n".join(shown[: offered + 1]), encoding="utf-8")
    (tmp_path / "test_crew.py").write_text(test, encoding="utf-8")
    metadata = tmp_path / "stratagem_crew-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: stratagem-crew\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[stratagem]\ncrew = stratagem_crew\n", encoding="utf-8"
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_crew.py"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
    )

    assert done.returncode == 0, done.stdout[-4000:]
