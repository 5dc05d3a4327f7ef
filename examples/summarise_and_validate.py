"""Summarise every interview, then validate every summary, offline.

    python examples/summarise_and_validate.py                       # strategy: threads
    python examples/summarise_and_validate.py processes
    python examples/summarise_and_validate.py "retry(threads, attempts=4)"

A summary is the person's best-matching statement on each theme, word for word, so a
validator can hold it against the interview.
"""

import json
import sys
from typing import Any

import stratagem
from interviews.answer import PEOPLE, interviews

THEMES = (
    "planning the week",
    "how they save money",
    "a purchase they regret",
    "a subscription they pay for",
)
LONGEST = 700


def summarise(person: dict[str, Any]) -> dict[str, Any]:
    """Pick the person's best statement on each theme, leaving out themes they never touched."""
    ranked = [interviews().ranked(person["person"], theme)[0] for theme in THEMES]
    quotes = dict.fromkeys(quote for score, quote in ranked if score > 0)
    return {"person": person["person"], "quotes": list(quotes)}


def validate(pair: dict[str, Any]) -> dict[str, Any]:
    """List what is wrong with one summary, held against the interview it came from."""
    interview, quotes = pair["interview"], pair["summary"]["quotes"]
    problems = [f"not said: {quote}" for quote in quotes if quote not in interview["statements"]]
    if not quotes:
        problems.append("empty summary")
    if (length := sum(map(len, quotes))) > LONGEST:
        problems.append(f"{length} characters, more than {LONGEST}")
    return {"person": interview["person"], "problems": problems}


def read_people() -> list[dict[str, Any]]:
    """Read every interview."""
    return [json.loads(line) for line in PEOPLE.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Run both steps under the strategy named on the command line and print the outcome."""
    strategy = sys.argv[1] if len(sys.argv) > 1 else "threads"
    people = read_people()
    summaries = stratagem.map(summarise, people, strategy=strategy).values
    pairs = [
        {"interview": person, "summary": summary}
        for person, summary in zip(people, summaries, strict=True)
    ]
    verdicts = stratagem.map(validate, pairs, strategy=strategy).values
    for summary, verdict in zip(summaries, verdicts, strict=True):
        print(f"{summary['person']}: {'; '.join(verdict['problems']) or 'valid'}")
        for quote in summary["quotes"]:
            print(f"    {quote}")


if __name__ == "__main__":
    main()
