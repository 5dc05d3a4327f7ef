"""The examples: the interviews and the panel under every strategy, the scripts as programs."""

import importlib.util
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import stratagem
from stratagem import Engine

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SPECS = ["sequential", "threads(max_workers=4)", "processes(max_workers=2)", "asyncio"]


def load(path, monkeypatch):
    """Import an example as a program would that stands beside it, so that workers can too."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def run_example(name, *arguments):
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def answers(monkeypatch):
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    return load(EXAMPLES / "interviews" / "answer.py", monkeypatch)


@pytest.fixture
def panel(monkeypatch):
    pytest.importorskip("autogen_agentchat")
    pytest.importorskip("autogen_ext.models.replay")
    return load(EXAMPLES / "autogen_panel.py", monkeypatch)


def test_interviews_are_answered_alike_under_every_strategy(answers):
    """Two hundred asks get the same answers, word for word, wherever they are answered."""
    lines = (EXAMPLES / "interviews" / "asks.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    asks = [json.loads(line) for line in lines]
    expected = [answers.answer(ask) for ask in asks]

    for spec in SPECS:
        with Engine(spec) as engine:
            assert engine.map(answers.answer, asks).values == expected, spec
    assert len(expected) == 200
    assert sum(answer["quote"] is not None for answer in expected) > 100


def make_echo_client():
    """Make a client that says back what it was told: whose notes it saw, and how many messages."""
    from autogen_core.models import CreateResult, RequestUsage  # noqa: PLC0415
    from autogen_ext.models.replay import ReplayChatCompletionClient  # noqa: PLC0415

    class Echo(ReplayChatCompletionClient):
        async def create(self, messages, **options):
            told = " | ".join(f"{type(m).__name__}: {m.content}" for m in messages)
            usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
            return CreateResult(finish_reason="stop", content=told, usage=usage, cached=False)

    return Echo(["never used"])


@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=4)", "asyncio"])
def test_conversations_of_a_panel_do_not_mix(panel, spec):
    """Each agent is told its own person's notes and the one question, and nothing of another."""
    people = panel.read_people(6)
    replies = panel.ask_panel(people, "What did you buy?", make_echo_client, spec)

    for person, reply in zip(people, replies, strict=True):
        assert reply.startswith(f"SystemMessage: You are {person['name']},")
        assert reply.endswith("UserMessage: What did you buy?")
        assert [other["name"] for other in people if f"You are {other['name']}" in reply] == [
            person["name"]
        ]
        assert reply.count(" | ") == 1


def test_a_panel_speaks_in_processes(panel):
    """Agents are made where they speak, so only names and notes travel."""
    people = panel.read_people(3)
    speak = partial(panel.speak, "What did you buy?", panel.make_replay_client)
    with Engine("processes(max_workers=2)") as engine:
        replies = engine.map(speak, people).values

    assert replies == ["I would rather not say."] * 3


def test_the_panel_runs_as_a_program():
    """The replayed panel prints a line for each person."""
    pytest.importorskip("autogen_agentchat")
    printed = run_example("autogen_panel.py", "--replay").splitlines()

    assert len(printed) == 5
    assert all(line.endswith(": I would rather not say.") for line in printed)


@pytest.mark.parametrize(
    "spec", ["threads", "processes(max_workers=2)", "retry(threads, attempts=4)"]
)
def test_summaries_are_valid_under_every_strategy(spec):
    """The script summarises and validates everybody, and every summary is found valid."""
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    verdicts = [
        line
        for line in run_example("summarise_and_validate.py", spec).splitlines()
        if not line.startswith("    ")
    ]

    assert len(verdicts) >= 20
    assert all(line.endswith(": valid") for line in verdicts)


FOLLOW_UPS = [
    (0, "Ada", (), "I do, with a list, when the planning is done."),
    (0, "Ada", (0,), "On Sunday, around my shifts."),
    (0, "Ben", (), "Whoever is hungry. Saving has never worked for us."),
    (0, "Ben", (0,), "For the rent. It takes planning."),
    (0, "Ben", (0, 0), "We do not."),
    (1, "Ada", (), "For a bicycle."),
    (1, "Ben", (), "For the rent. It takes planning."),
    (1, "Ben", (0,), "We do not."),
]


@pytest.mark.parametrize("spec", SPECS)
def test_follow_ups_are_the_same_under_every_strategy(monkeypatch, spec):
    """Who is asked what next depends on the answers alone."""
    module = load(EXAMPLES / "follow_ups.py", monkeypatch)
    names = list(module.ANSWERS)

    answers = module.interview("A list", spec)

    assert [(a.position, names[a.user], a.path, a.unwrap()) for a in answers] == FOLLOW_UPS


def test_follow_ups_run_as_a_program():
    """The script prints question and answer for each, under processes too."""
    assert len(run_example("follow_ups.py", "processes(max_workers=2)").splitlines()) == 16


def test_the_openai_example_can_be_imported_and_reads_its_asks(monkeypatch):
    """Three people are asked two questions each; its strategy can be made."""
    pytest.importorskip("openai")
    module = load(EXAMPLES / "openai_ask.py", monkeypatch)

    asks = module.read_asks()
    with stratagem.strategy(module.STRATEGY) as strategy:
        assert strategy.attempts == 4
    assert len(asks) == 6
    assert len({(ask["person"]["person"], ask["question"]) for ask in asks}) == 6
