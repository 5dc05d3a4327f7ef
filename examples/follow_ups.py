"""From an idea to questions, to everybody's answers, to follow-up questions, offline.

    python examples/follow_ups.py                          # strategy: threads
    python examples/follow_ups.py "processes(max_workers=2)"

Questions are asked while others are still being made. Whoever speaks of a thing that
others can be asked about as well is asked about that too, twice in a row at the most.
"""

import sys
from collections.abc import Iterator

import attrs

from stratagem import Answer, IdeaToQuestionsOrchestrator

QUESTIONS = {
    "shopping": "Who decides what to buy?",
    "planning": "How do you plan the week?",
    "saving": "What do you save for?",
}
ANSWERS = {
    "Ada": {
        "shopping": "I do, with a list, when the planning is done.",
        "planning": "On Sunday, around my shifts.",
        "saving": "For a bicycle.",
    },
    "Ben": {
        "shopping": "Whoever is hungry. Saving has never worked for us.",
        "planning": "We do not.",
        "saving": "For the rent. It takes planning.",
    },
}


@attrs.frozen
class Person:
    """Be somebody who answers from notes."""

    name: str

    def ask(self, question: str) -> str:
        """Answer a question that the notes have an answer to."""
        notes = ANSWERS[self.name]
        return next(notes[theme] for theme, asked in QUESTIONS.items() if asked in question)


def make_questions(idea: str) -> Iterator[str]:
    """Make the first questions of an idea."""
    yield f"{idea}: {QUESTIONS['shopping']}"
    yield f"{idea}: {QUESTIONS['saving']}"


def follow_up(answer: Answer) -> Iterator[str]:
    """Ask about every theme that an answer touches on."""
    for theme, question in QUESTIONS.items():
        if theme in answer.value.lower():
            yield f"You spoke of {theme}. {question}"


def interview(idea: str, strategy: str) -> list[Answer]:
    """Ask everybody all there is to ask about an idea."""
    orchestrator = IdeaToQuestionsOrchestrator(
        strategy, make_questions, follow_up=follow_up, max_depth=2
    )
    return orchestrator.ask(idea, [Person(name) for name in ANSWERS])


def main() -> None:
    """Interview everybody under the strategy named on the command line."""
    strategy = sys.argv[1] if len(sys.argv) > 1 else "threads"
    names = list(ANSWERS)
    for answer in interview("A shared shopping list", strategy):
        print(f"{'    ' * len(answer.path)}{names[answer.user]}: {answer.question}")
        print(f"{'    ' * len(answer.path)}    {answer.unwrap()}")


if __name__ == "__main__":
    main()
