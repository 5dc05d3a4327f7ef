"""Kill runs at random moments and resume them; compare with a ledger that the tasks keep.

    python -m benchmarks.killsweep -n 200

Each task adds a line to the ledger when it begins, and who reads the outcomes adds one to the
receipts for each that it gets: both know nothing of the journal. After each SIGKILL the journal
is asked what is in doubt; at last a run goes to its end, and all are compared:

- no outcome that was handed out is lost, and no recorded one runs again;
- a task that ran twice was in doubt, and was listed so; no more did than run at once;
- every task has the right value, and the journal counts as many beginnings as the ledger,
  but for tasks in doubt that had not begun.
"""

import argparse
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import attrs

from stratagem import Engine
from stratagem.testing.waiting import lines, note
from stratagem_journal import JournalError
from stratagem_journal.reading import open_reader
from stratagem_journal.schema import Row

__all__ = ["Trial", "sweep"]

STRATEGIES = {
    "sequential": 1,
    "threads(max_workers=8)": 8,
    "processes(max_workers=2)": 2,
    "asyncio(max_concurrency=16)": 16,
}
"""The strategies, each with how many of its tasks run at once."""

TASKS = 200
MOST_KILLS_OF_ONE_RUN = 3
PATIENCE = 60.0


def work(ledger: str, number: int) -> int:
    """Be a task: leave a line, take a moment."""
    note(Path(ledger), number)
    time.sleep(_pause())
    return number * number


async def work_async(ledger: str, number: int) -> int:
    """Be a task of the event loop."""
    import asyncio

    note(Path(ledger), number)
    await asyncio.sleep(_pause())
    return number * number


def _pause() -> float:
    return float(os.environ.get("KILLSWEEP_PAUSE", "0"))


def drive(directory: Path, strategy: str) -> None:
    """Run the batch to its end, noting down each outcome that comes out."""
    function = work_async if strategy.startswith("asyncio") else work
    task = partial(function, str(directory / "ledger"))
    spec = f"journal({strategy}, path={str(directory / 'run.db')!r})"
    with Engine() as engine, engine.stream_map(task, range(TASKS), strategy=spec) as stream:
        for outcome in stream:
            assert outcome.value == outcome.index**2
            note(directory / "receipts", f"{outcome.index} {int(outcome.recalled)}")
    note(directory / "over", stream.report.counts.total())


@attrs.define
class Trial:
    """Be one batch that is killed, some times, and then comes to its end.

    Attributes:
        strategy: what runs it.
        directory: where its files are.
        kills: how often it was killed while it ran.
        in_doubt: how many tasks were in doubt, the most of all kills.
        twice: how many tasks ran more than once.
    """

    strategy: str
    directory: Path
    kills: int = 0
    in_doubt: int = 0
    twice: int = 0
    _doubtful: Counter[int] = attrs.field(factory=Counter)

    def run(self, dice: random.Random, failpoint: str = "") -> "Trial":
        """Kill it, bring it to its end, and check it.

        Raises:
            AssertionError: a promise is broken.
        """
        pause = dice.choice([0.0, 0.001, 0.004])
        for _ in range(1 if failpoint else dice.randint(1, MOST_KILLS_OF_ONE_RUN)):
            self._kill_one(dice, pause, failpoint)
        drive(self.directory, self.strategy)
        assert lines(self.directory / "over"), "the last run did not come to its end"
        self._check()
        return self

    def _start(self, pause: float, failpoint: str) -> "subprocess.Popen[bytes]":
        named = {"STRATAGEM_JOURNAL_FAILPOINT": failpoint} if failpoint else {}
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.killsweep", "--drive", str(self.directory),
             self.strategy],
            env={**os.environ, "KILLSWEEP_PAUSE": str(pause), **named},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _kill_one(self, dice: random.Random, pause: float, failpoint: str) -> None:
        begun = len(lines(self.directory / "ledger"))
        received = self._received()
        recorded = self._recorded()
        process = self._start(pause, failpoint)
        if not failpoint:
            wait_until = begun + dice.randint(0, 20)
            deadline = time.monotonic() + PATIENCE
            while process.poll() is None and len(lines(self.directory / "ledger")) < wait_until:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(dice.random() * 0.1)
            process.kill()
        code = process.wait(PATIENCE)
        self.kills += code == -9
        assert code in {0, -9}, f"the run ended with {code}"
        self._look(received, recorded)

    def _received(self) -> set[int]:
        return {int(line.split()[0]) for line in lines(self.directory / "receipts")}

    def _rows(self) -> list[Row]:
        """Give what the journal holds, which is nothing until a run has made its tables."""
        path = self.directory / "run.db"
        if not path.exists():
            return []
        try:
            reader = open_reader(path)
        except JournalError as error:
            if "nothing was ever written" not in str(error):
                raise
            return []
        try:
            return list(reader.all_rows())
        finally:
            reader.close()

    def _recorded(self) -> set[int]:
        return {int(row.key) for row in self._rows() if row.status == "ok"}

    def _in_doubt(self) -> set[int]:
        return {int(row.key) for row in self._rows() if row.status == "doubt"}

    def _look(self, received_before: set[int], recorded_before: set[int]) -> None:
        """See what the journal says now: it holds what was handed out, and names what may run."""
        recorded = self._recorded()
        assert received_before | self._received() | recorded_before <= recorded
        ran = Counter(int(line) for line in lines(self.directory / "ledger"))
        doubtful = self._in_doubt()
        assert set(ran) <= recorded | doubtful, "a task had begun and is not listed"
        assert len(doubtful) <= STRATEGIES[self.strategy], "more in doubt than in flight"
        self.in_doubt = max(self.in_doubt, len(doubtful))
        self._doubtful.update(doubtful)

    def _check(self) -> None:
        ran = Counter(int(line) for line in lines(self.directory / "ledger"))
        assert set(ran) == set(range(TASKS))
        assert self._recorded() == self._received() == set(range(TASKS))
        begun = {int(row.key): row.begun for row in self._rows()}
        for number in range(TASKS):
            assert ran[number] <= 1 + self._doubtful[number], f"{number} ran again without a doubt"
            spare = begun[number] - ran[number]
            assert 0 <= spare <= self._doubtful[number], f"{number} was counted wrongly"
        self.twice = sum(count - 1 for count in ran.values())
        assert self.twice <= self.kills * STRATEGIES[self.strategy], "more twice than in flight"


def sweep(kills: int, seed: int) -> list[Trial]:
    """Run trials, over all strategies in turn, until there were so many kills.

    Raises:
        AssertionError: a promise is broken.
    """
    dice = random.Random(seed)
    trials: list[Trial] = []
    while sum(trial.kills for trial in trials) < kills:
        strategy = list(STRATEGIES)[len(trials) % len(STRATEGIES)]
        with tempfile.TemporaryDirectory() as directory:
            trials.append(Trial(strategy, Path(directory)).run(dice))
    return trials


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=20, help="how many kills")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        directory, strategy = given.drive
        drive(Path(directory), strategy)
        return
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    logging.getLogger("stratagem.journal").setLevel(logging.ERROR)  # doubts are counted here
    trials = sweep(given.n, seed)
    for strategy, at_once in STRATEGIES.items():
        some = [trial for trial in trials if trial.strategy == strategy]
        print(
            f"{strategy}: {sum(trial.kills for trial in some)} kills of {len(some)} runs, "
            f"at most {max((trial.in_doubt for trial in some), default=0)} in doubt "
            f"({at_once} at once), {sum(trial.twice for trial in some)} tasks ran twice, "
            "none lost, none again that was recorded"
        )


if __name__ == "__main__":
    _main()
