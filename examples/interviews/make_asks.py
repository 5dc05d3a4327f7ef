"""Make asks.jsonl: every interviewed person asked every question, in file order.

Run `python make_asks.py` again after changing people.jsonl or questions.txt;
the same two files always make the same asks.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load_people(path: Path = HERE / "people.jsonl") -> list[dict[str, Any]]:
    """Read the interviewed people, one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def load_questions(path: Path = HERE / "questions.txt") -> list[str]:
    """Read the questions, one a line."""
    with path.open(encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip()]


def make_asks(people: list[dict[str, Any]], questions: list[str]) -> list[dict[str, str]]:
    """Pair every person with every question, person by person."""
    return [
        {"person": person["person"], "question": question}
        for person in people
        for question in questions
    ]


def write_asks(path: Path = HERE / "asks.jsonl") -> int:
    """Write the asks to `path` and return how many there are."""
    asks = make_asks(load_people(), load_questions())
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for ask in asks:
            out.write(json.dumps(ask, ensure_ascii=False) + "\n")
    return len(asks)


if __name__ == "__main__":
    print(f"{write_asks()} asks")
