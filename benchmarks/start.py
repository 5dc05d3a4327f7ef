"""Time to start: an import, and the shortest command."""

import statistics
import subprocess
import sys
from functools import partial

from benchmarks.contest import Contender, Contest, Figures, Mark
from benchmarks.measure import seconds_of


def python(*arguments: str) -> None:
    """Run an interpreter to its end.

    Raises:
        ModuleNotFoundError: it did not find a module.
        CalledProcessError: it failed otherwise.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    last = done.stderr.strip().rpartition("\n")[2]
    if last.startswith("ModuleNotFoundError"):
        raise ModuleNotFoundError(last, name=last.split("'")[1])
    done.check_returncode()


def importing(statement: str) -> Contender:
    """Take the difference to an interpreter that imports nothing, in turn with it."""

    def contender(size: int) -> Figures:
        bare, whole = partial(python, "-c", "pass"), partial(python, "-c", statement)
        whole()
        pairs = [(seconds_of(bare), seconds_of(whole)) for _ in range(size)]
        nothing, all_of_it = (statistics.median(column) for column in zip(*pairs, strict=True))
        return {"ms of its own": (all_of_it - nothing) * 1e3, "ms in all": all_of_it * 1e3}

    return contender


def listing(size: int) -> Figures:
    command = partial(python, "-m", "stratagem", "strategies")
    command()
    return {"seconds": statistics.median(seconds_of(command) for _ in range(size))}


START = [
    Contest(
        "import",
        "An import, over an interpreter that imports nothing.",
        10,
        3,
        {
            "stratagem": importing("import stratagem"),
            "joblib": importing("import joblib"),
            "LangChain": importing("from langchain_core.runnables import RunnableLambda"),
        },
        [Mark("ms of its own", 60)],
    ),
    Contest(
        "list-strategies",
        "`stratagem strategies`, from the shell and back.",
        10,
        3,
        {"stratagem strategies": listing},
        [Mark("seconds", 0.5)],
    ),
]
