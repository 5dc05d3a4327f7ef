"""Check the interviews in examples/interviews, and that the right words answer each question."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.once

pytest.importorskip("bm25s")
pytest.importorskip("Stemmer")

INTERVIEWS = Path(__file__).resolve().parents[1] / "examples" / "interviews"

PLAN = "How do you plan your week?"
GROCERIES = "Do you shop for groceries with cash or with a card?"
APP = "Which app do you open most on your phone?"
DISTRUST = "Why do you distrust AI assistants?"
COMMUTE = "Do you commute by train, bus, bike or car?"
SAVE = "How do you save money?"
SLEEP = "How do you sleep at night?"
LEARN = "How do you learn a new tool?"
SUPPORT = "What happened when you called customer support?"
PRIVACY = "What worries you about privacy and personal data?"
REGRET = "What did you buy and regret?"
SUBSCRIPTION = "Which subscription do you gladly pay for?"

GOLD = [
    ("rosa-ferrante", PLAN, "I plan my week backwards from the rota"),
    ("dmitar-velkov", PLAN, "The depot plans my week for me"),
    ("sam-whitcombe", PLAN, "Sunday bath time is for planning"),
    ("tobias-kern", GROCERIES, "I do the grocery shopping at the farmers' market"),
    ("hank-dubrowski", GROCERIES, "Cash. I shop for groceries with a list, a pencil"),
    ("thandeka-mokoena", GROCERIES, "I shop for groceries at month-end with a card"),
    ("oskar-lindahl", APP, "Ship-tracking is the app I open most"),
    ("lotte-vermeersch", APP, "Five in the morning, one eye shut"),
    ("finn-aaltonen", APP, "My phone buzzes for every goal in the hockey league"),
    ("aoife-brannigan", DISTRUST, "I asked an AI assistant what to do for a dog"),
    ("gwen-pritchard", DISTRUST, "It's the flattery that makes me distrust"),
    ("idris-llewellyn", DISTRUST, "I distrust AI assistants because they pass the demo"),
    ("priya-raghunathan", COMMUTE, "I gave up the car after the ring-road works"),
    ("malik-boateng", COMMUTE, "I commute by tro-tro and then a staff bus"),
    ("eszter-balogh", COMMUTE, "It's the 7.12 train to Budapest"),
    ("noor-el-amin", SAVE, "I save money by cooking with three flatmates"),
    ("pavel-horak", SAVE, "The honey pays for the winter"),
    ("dolores-medrano", SAVE, "Whoever sews can save"),
    ("yuki-tanabe", SLEEP, "I go to bed with my daughter at eight"),
    ("celeste-okonjo", SLEEP, "After a wedding I can't sleep till three"),
    ("anneke-de-wit", SLEEP, "During calving I sleep in my socks"),
    ("ines-carvalhal", LEARN, "To learn a new modelling tool I redraw my own kitchen"),
    ("ravi-menon", LEARN, "For a new tool I make the youngest man read it aloud"),
    ("jun-seo-park", LEARN, "For a new tool I translate one silly page"),
    ("rosa-ferrante", SUPPORT, "On hold with the washing machine people's customer support"),
    ("dolores-medrano", SUPPORT, "The man at the sewing-machine factory's customer support"),
    ("idris-llewellyn", SUPPORT, "I called customer support for my smart lock"),
    ("dmitar-velkov", PRIVACY, "There are nine cameras on my tram"),
    ("malik-boateng", PRIVACY, "Loan apps worry me"),
    ("anneke-de-wit", PRIVACY, "Every cow wears a sensor"),
    ("oskar-lindahl", REGRET, "I regret the robot mower deeply"),
    ("lotte-vermeersch", REGRET, "The neon sign seemed like a fine idea"),
    ("thandeka-mokoena", REGRET, "I only went in to buy school socks"),
    ("priya-raghunathan", SUBSCRIPTION, "A subscription I gladly pay is the one for"),
    ("pavel-horak", SUBSCRIPTION, "The weather station is the one subscription"),
    ("jun-seo-park", SUBSCRIPTION, "Shouting needs a proper typeface"),
]

NEVER_SAID = [
    ("gwen-pritchard", COMMUTE),
    ("sam-whitcombe", COMMUTE),
    ("thandeka-mokoena", APP),
    ("rosa-ferrante", "Quel est votre violoncelle?"),
    ("rosa-ferrante", "What about it?"),
    ("rosa-ferrante", ""),
]


def load(name: str) -> ModuleType:
    """Import a fresh copy of one example from its file path."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", INTERVIEWS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def answers() -> ModuleType:
    """Give a copy of answer.py that has not loaded its index yet."""
    return load("answer")


@pytest.fixture(scope="module")
def loaded_answers() -> ModuleType:
    """Give one copy of answer.py for all tests that only ask it."""
    return load("answer")


@pytest.fixture(scope="module")
def people() -> list[dict[str, Any]]:
    """Give the interviewed people."""
    return rows("people.jsonl")


@pytest.fixture(scope="module")
def questions() -> list[str]:
    """Give the questions."""
    return (INTERVIEWS / "questions.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def asks() -> list[dict[str, str]]:
    """Give the asks."""
    return rows("asks.jsonl")


def rows(name: str) -> list[dict[str, Any]]:
    """Read a JSONL file of the interviews."""
    return [json.loads(line) for line in (INTERVIEWS / name).read_text("utf-8").splitlines()]


def test_enough_people_were_interviewed(people: list[dict[str, Any]]) -> None:
    """At least twenty people are there, each under an id of their own."""
    ids = [person["person"] for person in people]

    assert len(ids) >= 20
    assert len(set(ids)) == len(ids)


def test_every_person_has_the_same_fields(people: list[dict[str, Any]]) -> None:
    """Every person has an id, a name, an age, an occupation, a town and 14 to 18 statements."""
    fields = [tuple(person) for person in people]
    counts = [len(person["statements"]) for person in people]

    assert set(fields) == {("person", "name", "age", "occupation", "town", "statements")}
    assert min(counts) >= 14
    assert max(counts) <= 18


def test_statements_are_many_and_unique(people: list[dict[str, Any]]) -> None:
    """At least three hundred statements are there and no two of them are the same."""
    statements = [statement for person in people for statement in person["statements"]]

    assert len(statements) >= 300
    assert len(set(statements)) == len(statements)


def test_every_person_is_asked_every_question(
    people: list[dict[str, Any]], questions: list[str], asks: list[dict[str, str]]
) -> None:
    """The asks are every person times every question, in file order."""
    pairs = [(person["person"], question) for person in people for question in questions]

    assert len(questions) == len(set(questions)) == 12
    assert [(ask["person"], ask["question"]) for ask in asks] == pairs


def test_making_the_asks_again_gives_the_same_file(tmp_path: Path) -> None:
    """Running make_asks.py gives byte for byte the asks that are kept."""
    again = tmp_path / "asks.jsonl"

    count = load("make_asks").write_asks(again)

    assert count == 288
    assert again.read_bytes() == (INTERVIEWS / "asks.jsonl").read_bytes()


@pytest.mark.parametrize(("person", "question", "opening"), GOLD)
def test_the_right_statement_answers(
    loaded_answers: ModuleType, person: str, question: str, opening: str
) -> None:
    """A hand-checked question gets the statement that answers it, with a score above zero."""
    ask = {"person": person, "question": question}

    reply = loaded_answers.answer(ask)

    assert reply["quote"].startswith(opening)
    assert reply["score"] > 0
    assert reply == {**ask, "quote": reply["quote"], "score": reply["score"]}


def test_the_hand_checked_pairs_cover_every_question(questions: list[str]) -> None:
    """Every question is among the hand-checked pairs."""
    checked = {question for _, question, _ in GOLD}

    assert checked == set(questions)


@pytest.mark.parametrize(("person", "question"), NEVER_SAID)
def test_no_match_answers_none(loaded_answers: ModuleType, person: str, question: str) -> None:
    """A question that shares no word with anything the person said gets the quote None."""
    reply = loaded_answers.answer({"person": person, "question": question})

    assert reply == {"person": person, "question": question, "quote": None, "score": 0.0}


def test_every_quote_is_the_persons_own(
    loaded_answers: ModuleType, people: list[dict[str, Any]], asks: list[dict[str, str]]
) -> None:
    """Every answer quotes the person who was asked, word for word, or nobody."""
    said = {person["person"]: {*person["statements"], None} for person in people}

    replies = [loaded_answers.answer(ask) for ask in asks]

    assert all(reply["quote"] in said[reply["person"]] for reply in replies)


def test_an_unknown_person_is_named(answers: ModuleType) -> None:
    """Asking somebody who was not interviewed raises a LookupError with that person's id."""
    ask = {"person": "nobody-at-all", "question": PLAN}

    with pytest.raises(LookupError, match="nobody-at-all"):
        answers.answer(ask)


def test_eight_threads_answer_as_one(
    answers: ModuleType, loaded_answers: ModuleType, asks: list[dict[str, str]]
) -> None:
    """Eight threads that race to load the index give the answers that one thread gives."""
    start = Barrier(8)

    def answer_all(_: int) -> list[dict[str, Any]]:
        start.wait()
        return [answers.answer(ask) for ask in asks]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(answer_all, range(8)))

    assert replies == [[loaded_answers.answer(ask) for ask in asks]] * 8


def test_answering_prints_nothing(
    answers: ModuleType, capfd: pytest.CaptureFixture[str], asks: list[dict[str, str]]
) -> None:
    """Loading the index and answering writes nothing to either output stream."""
    answers.answer(asks[0])

    assert capfd.readouterr() == ("", "")
