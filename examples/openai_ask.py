"""Ask a few interviewed people a few questions through any OpenAI-compatible endpoint.

export OPENAI_API_KEY=... OPENAI_MODEL=...
export OPENAI_BASE_URL=http://localhost:8000/v1    # only for another endpoint
python examples/openai_ask.py
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

import stratagem

INTERVIEWS = Path(__file__).resolve().parent / "interviews"
STRATEGY = "retry(asyncio(max_concurrency=20), attempts=4)"


async def ask_model(client: AsyncOpenAI, model: str, ask: dict[str, Any]) -> str:
    """Have the model answer one question as one interviewed person."""
    person = ask["person"]
    notes = "\n".join(person["statements"])
    completion = await client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "system",
                "content": f"You are {person['name']}, {person['occupation']} in {person['town']}. "
                f"Answer in one sentence, only from what you said before:\n{notes}",
            },
            {"role": "user", "content": ask["question"]},
        ],
    )
    return completion.choices[0].message.content or ""


def read_asks(people: int = 3, questions: int = 2) -> list[dict[str, Any]]:
    """Pair the first few people with the first few questions."""
    rows = (INTERVIEWS / "people.jsonl").read_text(encoding="utf-8").splitlines()[:people]
    lines = (INTERVIEWS / "questions.txt").read_text(encoding="utf-8").splitlines()[:questions]
    return [{"person": json.loads(row), "question": question} for row in rows for question in lines]


def main() -> None:
    """Ask, and print each answer under its question."""
    # The strategy retries, so the client must not: the two would multiply.
    client = AsyncOpenAI(max_retries=0, timeout=60)
    model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    asks = read_asks()
    report = stratagem.map(partial(ask_model, client, model), asks, strategy=STRATEGY)
    for ask, reply in zip(asks, report.values, strict=True):
        print(f"{ask['person']['name']}: {ask['question']}\n    {reply}")


if __name__ == "__main__":
    main()
