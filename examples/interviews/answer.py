"""Answer interview questions with the person's own words, found by BM25.

    stratagem map examples/interviews/answer.py:answer examples/interviews/asks.jsonl \
        -s threads -o answers.jsonl

Retrieval is lexical: a question finds a statement through the words, reduced to
their stems, that the two share. A person who never touched on a subject gets the
quote None.
"""

import json
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import bm25s
import Stemmer

PEOPLE = Path(__file__).resolve().parent / "people.jsonl"


@attrs.frozen
class Interviews:
    """Hold every statement, who said it, and the index over all of them."""

    index: bm25s.BM25
    statements: tuple[str, ...]
    spans: dict[str, range]

    def ranked(self, person: str, question: str) -> list[tuple[float, str]]:
        """Rank one person's statements for a question, best first, spoken order on ties."""
        try:
            span = self.spans[person]
        except KeyError:
            known = ", ".join(sorted(self.spans))
            raise LookupError(f"no interview with person {person!r}; there are: {known}") from None
        [words] = stems([question])
        if not words:
            return [(0.0, self.statements[at]) for at in span]
        scores = self.index.get_scores(words)
        ranked = [(round(float(scores[at]), 4), self.statements[at]) for at in span]
        return sorted(ranked, key=lambda scored: -scored[0])


def stems(texts: list[str]) -> list[list[str]]:
    """Split texts into lower-case English word stems without stop words."""
    words: list[list[str]] = bm25s.tokenize(
        texts,
        stopwords="english_plus",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )
    return words


def index_people(path: Path) -> Interviews:
    """Build the index of every statement of the people in a JSONL file."""
    statements: list[str] = []
    spans: dict[str, range] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            person = json.loads(line)
            start = len(statements)
            statements += person["statements"]
            spans[person["person"]] = range(start, len(statements))
    index = bm25s.BM25()
    index.index(stems(statements), show_progress=False)
    return Interviews(index, tuple(statements), spans)


_loading = Lock()
_load = cache(index_people)


def interviews() -> Interviews:
    """Return the index, built once per process even when threads race for it."""
    with _loading:
        return _load(PEOPLE)


def answer(ask: dict[str, str]) -> dict[str, Any]:
    """Answer one ask with the person's best-matching statement, or None without a match."""
    score, quote = interviews().ranked(ask["person"], ask["question"])[0]
    return {
        "person": ask["person"],
        "question": ask["question"],
        "quote": quote if score > 0 else None,
        "score": score,
    }
