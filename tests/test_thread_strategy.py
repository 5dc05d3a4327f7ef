"""What is particular to threads: deadlines, and threads that do not come back."""

import asyncio
import threading
from contextlib import closing

import pytest

from stratagem import AbandonedThreadsError, Engine, Status, Task, TaskTimeoutError
from stratagem.intake import SequenceIntake
from stratagem_builtin import ThreadPoolStrategy

PATIENCE = 20.0


class Held(float):
    """Be a timeout whose deadline holds the clock, when that has seen it and not yet acted."""

    def __new__(cls, seconds, *, seen, go_on):
        held = super().__new__(cls, seconds)
        held.seen, held.go_on = seen, go_on
        return held

    def __radd__(self, began):
        return Held(began + float(self), seen=self.seen, go_on=self.go_on)

    def __gt__(self, now):
        self.seen.set()
        assert self.go_on.wait(PATIENCE)
        return False


@pytest.mark.parametrize("timeout_of_the_next", [None, PATIENCE])
def test_a_deadline_ends_no_other_task_than_its_own(timeout_of_the_next):
    """A task that ends just before it is timed out leaves its thread's next task unharmed."""
    seen, go_on, second_may_end = threading.Event(), threading.Event(), threading.Event()

    def first():
        return seen.wait(PATIENCE)

    def second():
        go_on.set()
        strategy.clock.call_at(0.0, second_may_end.set)  # after what the clock does now
        return second_may_end.wait(PATIENCE)

    timeouts = {first: Held(0.01, seen=seen, go_on=go_on), second: timeout_of_the_next}

    def make(index, call):
        return Task(index, str(index), call.__name__, call, timeouts[call])

    with (
        ThreadPoolStrategy(max_workers=1) as strategy,
        closing(SequenceIntake([first, second], make)) as source,
    ):
        outcomes = list(strategy.stream(source))

    assert [(o.name, o.status, o.value) for o in outcomes] == [
        ("first", Status.OK, True),
        ("second", Status.OK, True),
    ]


def wait_until_told(told):
    return told.wait(PATIENCE)


def test_a_task_that_cannot_be_stopped_says_where_it_was():
    """The error of a timeout shows the stack, and its message file, line and function."""
    told = threading.Event()
    try:
        with Engine("threads(max_workers=2)") as engine:
            report = engine.map(wait_until_told, [told], timeout=0.1)
    finally:
        told.set()

    error = report[0].error
    assert isinstance(error, TaskTimeoutError)
    assert (report[0].status, error.abandoned) == ("timeout", True)
    assert "in wait_until_told\n    return told.wait(PATIENCE)" in error.stack
    assert "stratagem_builtin" not in error.stack
    assert __file__ in str(error)


def test_too_many_threads_that_do_not_come_back_end_the_run():
    """One more than ``max_abandoned`` raises, with every task answered for; then it goes on."""
    told = threading.Event()
    try:
        with Engine("threads(max_workers=2, max_abandoned=2)") as engine:
            with pytest.raises(AbandonedThreadsError, match="max_abandoned=2") as raised:
                engine.map(wait_until_told, [told] * 50, timeout=0.1)
            assert engine.map(str, range(3)).values == ["0", "1", "2"]
    finally:
        told.set()

    report = raised.value.report
    assert raised.value.count > raised.value.most == 2
    assert report.counts[Status.TIMEOUT] >= raised.value.count
    assert {outcome.status for outcome in report} <= {Status.TIMEOUT, Status.CANCELLED}


def test_threads_that_came_back_are_not_counted():
    """A task that overran its timeout and ended after all does not weigh on later ones."""
    with Engine("threads(max_workers=1, max_abandoned=1)") as engine:
        for _ in range(4):
            told = threading.Event()
            report = engine.map(wait_until_told, [told], timeout=0.05)
            assert report[0].status == Status.TIMEOUT
            told.set()
            abandoned = engine._strategy_for(None)[0].abandoned
            deadline = threading.Event()
            while abandoned:
                assert not deadline.wait(0.01)


def test_a_coroutine_that_swallows_its_cancel_once_is_stopped_by_the_next():
    """It is cancelled again, ends as ``timeout``, and is not called abandoned."""
    cancels = []

    async def stubborn():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(1)
                if len(cancels) == 2:
                    raise

    with Engine("threads(max_workers=1)") as engine:
        report = engine.run([stubborn], timeout=0.05)

    assert (report[0].status, report[0].error.abandoned) == ("timeout", False)
    assert len(cancels) == 2
