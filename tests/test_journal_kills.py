"""Runs that are killed, wherever it strikes: nothing recorded is lost, nothing recorded runs again."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from benchmarks.killsweep import STRATEGIES, Trial
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stratagem import (
    Engine,
    ExecutionStrategy,
    Outcome,
    Status,
    StreamingStrategy,
    TaskLostError,
    invoke,
)
from stratagem_journal import JournalMismatchError, JournalStrategy
from stratagem_journal.failpoints import POINTS, armed

pytestmark = pytest.mark.once

KILLS = 5


@pytest.mark.parametrize("spec", STRATEGIES)
def test_random_kills_lose_nothing(spec, tmp_path):
    """What was handed out is recorded; what was recorded never runs again; all doubts are listed."""
    dice = random.Random(f"{spec} 20261123")
    kills = number = 0
    while kills < KILLS:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        kills += Trial(spec, directory).run(dice).kills


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_kill_at_each_step_loses_nothing(point, times, tmp_path):
    """At every point of the protocol, the first time and later, also in the run that resumes."""
    happens_once = {"file_created", "schema_written", "opened", "before_close", "closed"}
    if times > 1 and point in happens_once:
        pytest.skip("it is passed once in a run")
    trial = Trial("threads(max_workers=8)", tmp_path)
    trial.run(random.Random(times), f"{point}:{times}")

    assert trial.kills >= 1


def test_without_the_variable_no_point_is_passed():
    """Nothing is called, and a misspelt point is an error."""
    assert armed({}) is None
    with pytest.raises(ValueError, match="names 'nowhere'; the points are: file_created"):
        armed({"STRATAGEM_JOURNAL_FAILPOINT": "nowhere"})


class Puppet(StreamingStrategy):
    """Run tasks one after another; lose those of which it is told so."""

    shares_memory = True

    def __init__(self, lost):
        self.lost = lost

    def stream(self, tasks):
        try:
            for task in tasks:
                outcome = invoke(task)
                if int(task.key) in self.lost:
                    error = TaskLostError(task.key, "the puppet lost it")
                    outcome = Outcome(task.index, task.key, task.name, Status.LOST, error=error)
                yield outcome
        finally:
            tasks.close()


KEYS = range(12)


class Resumes(RuleBasedStateMachine):
    """Run one batch again and again: its tasks fail, are lost, change, and runs crash.

    A crash is what the disk holds at that moment: the file and its log are copied, and the
    next run begins with the copies.
    """

    def __init__(self):
        super().__init__()
        self.engine = Engine(block=["lifecycle_log"])
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "run.db"
        self.inputs = dict.fromkeys(KEYS, 0)
        self.recorded = {}
        self.runs = 0

    def teardown(self):
        self.engine.close()
        shutil.rmtree(self.directory)

    def run(self, size, failing=(), lost=(), crash_at=None, **options):
        """Run the batch; give the keys that ran, and the outcomes."""
        ran, received, image = [], [], None

        def work(item):
            nonlocal image
            key, version = item
            ran.append(key)
            if key == crash_at and image is None:
                image = self.image(), dict(received)
            if key in failing:
                raise ValueError(key)
            return [key, version]

        items = [(key, self.inputs[key]) for key in KEYS[:size]]
        strategy: ExecutionStrategy = JournalStrategy(
            Puppet(lost), str(self.path), durability="process", **options
        )
        with (
            strategy,
            self.engine.stream_map(
                work, items, strategy=strategy, key=lambda item: item[0]
            ) as stream,
        ):
            outcomes = []
            for outcome in stream:
                outcomes.append(outcome)
                if outcome.ok:
                    received.append((int(outcome.key), outcome.value))
        return ran, outcomes, image

    def image(self):
        return {
            suffix: (self.path.with_name(self.path.name + suffix)).read_bytes()
            for suffix in ("", "-wal")
        }

    def check(self, ran, outcomes, size):
        recalled = {int(o.key) for o in outcomes if o.recalled}
        assert recalled == {key for key in self.recorded if key < size}
        assert sorted(ran) == sorted(set(range(size)) - recalled)
        for outcome in outcomes:
            if outcome.ok:
                assert outcome.value == [int(outcome.key), self.inputs[int(outcome.key)]]

    @rule(
        size=st.integers(0, 12),
        failing=st.sets(st.sampled_from(KEYS), max_size=4),
        lost=st.sets(st.sampled_from(KEYS), max_size=2),
    )
    def goes_through(self, size, failing, lost):
        ran, outcomes, _ = self.run(size, failing, lost)
        self.check(ran, outcomes, size)
        self.recorded |= {int(o.key): o.value for o in outcomes if o.ok}

    @rule(
        size=st.integers(1, 12),
        crash_at=st.sampled_from(KEYS),
        failing=st.sets(st.sampled_from(KEYS), max_size=2),
    )
    def crashes(self, size, crash_at, failing):
        ran, outcomes, image = self.run(size, failing, crash_at=crash_at)
        self.check(ran, outcomes, size)
        known = {int(o.key): o.value for o in outcomes if o.ok}
        if image is None:
            self.recorded |= known
            return
        files, received = image
        for suffix, content in files.items():
            (self.directory / f"run.db{suffix}").write_bytes(content)
        (self.directory / "run.db").chmod(0o600)
        _, outcomes, _ = self.run(12, failing=KEYS)
        now = {int(o.key): o.value for o in outcomes if o.recalled}
        assert received.items() <= now.items() <= (self.recorded | known).items()
        self.recorded = now

    @rule(key=st.sampled_from(KEYS), version=st.integers(1, 3))
    def changes(self, key, version):
        before, self.inputs[key] = self.inputs[key], version
        if key not in self.recorded or before == version:
            return
        with pytest.raises(JournalMismatchError) as caught:
            self.run(12)
        assert caught.value.keys == (str(key),)
        ran, outcomes, _ = self.run(12, failing=set(KEYS) - {key}, on_mismatch="rerun")
        assert key in ran
        self.recorded[key] = next(o.value for o in outcomes if o.key == str(key))

    @invariant()
    def values_are_those_of_their_inputs(self):
        assert all(value == [key, self.inputs[key]] for key, value in self.recorded.items())


Resumes.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestResumes = Resumes.TestCase
