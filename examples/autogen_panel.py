"""Put one question to a panel of AutoGen agents, one agent for each interviewed person.

    python examples/autogen_panel.py --replay                # canned replies, no network
    OPENAI_API_KEY=... python examples/autogen_panel.py      # any OpenAI-compatible endpoint

Every task makes its own agent and its own model client. An AssistantAgent keeps its
conversation, so two tasks sharing one would read each other's, and neither it nor a
model client pickles; a factory for them does, and the processes strategy needs that.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ChatCompletionClient, ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

import stratagem

PEOPLE = Path(__file__).resolve().parent / "interviews" / "people.jsonl"


def make_agent(person: dict[str, Any], client: ChatCompletionClient) -> AssistantAgent:
    """Make a fresh agent that speaks for one interviewed person."""
    notes = "\n".join(person["statements"])
    return AssistantAgent(
        name=person["person"].replace("-", "_"),
        model_client=client,
        system_message=f"You are {person['name']}, {person['occupation']} in {person['town']}. "
        f"Answer in one sentence, only from what you said before:\n{notes}",
    )


async def speak(
    question: str, make_model_client: Callable[[], ChatCompletionClient], person: dict[str, Any]
) -> str:
    """Have a new agent for one person answer the question."""
    client = make_model_client()
    try:
        result = await make_agent(person, client).run(task=question)
    finally:
        await client.close()
    return result.messages[-1].to_text()


def ask_panel(
    people: Iterable[dict[str, Any]],
    question: str,
    make_model_client: Callable[[], ChatCompletionClient],
    strategy: str = "asyncio",
) -> list[str]:
    """Return one reply a person, in the order of the people."""
    task = partial(speak, question, make_model_client)
    return list(stratagem.map(task, list(people), strategy=strategy).values)


def make_openai_client() -> ChatCompletionClient:
    """Make a client for OPENAI_MODEL at OPENAI_BASE_URL, leaving retries to the strategy."""
    return OpenAIChatCompletionClient(
        model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        model_info=ModelInfo(
            vision=False,
            function_calling=False,
            json_output=False,
            structured_output=False,
            family=ModelFamily.UNKNOWN,
        ),
        max_retries=0,
    )


def make_replay_client() -> ChatCompletionClient:
    """Make a client that gives one canned reply."""
    return ReplayChatCompletionClient(["I would rather not say."])


def read_people(count: int = 5) -> list[dict[str, Any]]:
    """Read the first few interviewed people."""
    lines = PEOPLE.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def main() -> None:
    """Print what the first few people reply."""
    make_model_client = make_replay_client if "--replay" in sys.argv[1:] else make_openai_client
    people = read_people()
    replies = ask_panel(people, "What did you buy and regret?", make_model_client)
    for person, reply in zip(people, replies, strict=True):
        print(f"{person['name']}: {reply}")


if __name__ == "__main__":
    main()
