"""Strategies that stand over several others: what the core does for them."""

import threading
from contextvars import ContextVar

import attrs
import pytest

from stratagem import (
    CapabilityError,
    Engine,
    ExecutionStrategy,
    NestingError,
    Outbox,
    StreamingStrategy,
    hookimpl,
    invoke,
    nested,
    outcomes_of,
    thread_context,
)
from stratagem.scope import current_hold
from stratagem_builtin import ThreadPoolStrategy

PATIENCE = 20.0
CAPABILITIES = ["can_kill", "shares_memory", "isolates_crashes", "enforces_timeouts"]
variable = ContextVar("variable", default="unset")


@attrs.define(eq=False)
class Able(ExecutionStrategy):
    """State what it is told to, and note when it is closed."""

    can_kill: bool = False
    shares_memory: bool = False
    isolates_crashes: bool = False
    enforces_timeouts: bool = False
    distributed: bool = False
    error: Exception | None = None
    closed: int = 0

    def run_tasks(self, callables):
        return [call() for call in callables]

    def close(self):
        self.closed += 1
        if self.error is not None:
            raise self.error


class Over(ExecutionStrategy):
    """Stand over others, and run by the first."""

    def __init__(self, **inners):
        self.inners = inners

    def run_tasks(self, callables):
        return next(iter(self.inners.values())).run_tasks(callables)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_stands_over_several_can_do_what_all_of_them_can(capability):
    """One that cannot is enough; of none at all nothing is promised."""
    can, cannot = Able(**{capability: True}), Able()

    assert getattr(Over(one=can, other=can), capability)
    assert not getattr(Over(one=can, other=cannot), capability)
    assert not getattr(Over(), capability)


def test_what_stands_over_one_that_is_distributed_is_so_itself():
    """Tasks may run on other machines as soon as some of them may."""
    assert Over(one=Able(), other=Able(distributed=True)).distributed
    assert not Over(one=Able()).distributed


def test_closing_closes_all_of_them():
    """Also when one of them raises, which is raised then."""
    one, bad, other = Able(), Able(error=OSError("stuck")), Able()
    with pytest.raises(OSError, match="stuck"):
        Over(one=one, bad=bad, other=other).close()

    assert [one.closed, bad.closed, other.closed] == [1, 1, 1]


def test_a_refused_timeout_names_who_cannot_keep_it(engine):
    """By the path from the outermost to it."""
    strategy = Over(safe=Able(enforces_timeouts=True), deep=Over(weak=Able()))

    with pytest.raises(CapabilityError) as caught:
        engine.map(abs, [-1], strategy=strategy, timeout=1)
    assert str(caught.value).startswith(
        "strategy 'Over' cannot stop a task in 'deep' (Over) in 'weak' (Able), so it takes no "
        "timeout; use one that can: "
    )


def test_a_listener_may_start_no_run_on_any_of_them():
    """As it may not on what it observes itself."""
    inner = Able()
    refused = []

    class Listener:
        @hookimpl
        def stratagem_before_task(self):
            try:
                engine.map(abs, [-1], strategy=inner)
            except NestingError as error:
                refused.append(error)

    with Engine(plugins=[Listener()]) as engine:
        engine.map(abs, [-1], strategy=Over(one=Able(), other=Over(deep=inner)))

    assert len(refused) == 1


class Beside(StreamingStrategy):
    """Read another strategy in a thread, and hand on what it gives, as a third party may."""

    def __init__(self, inner, notes):
        self.inner = inner
        self.notes = notes

    def stream(self, tasks):
        return outcomes_of(BesideStream(self, tasks), PATIENCE)


class BesideStream:
    failure = None

    def __init__(self, strategy, tasks):
        self.strategy = strategy
        self.tasks = tasks
        self.outbox = Outbox(8)
        self.over = False
        self.thread = threading.Thread(target=thread_context().run, args=(self.read,))

    def begin(self):
        self.thread.start()

    def read(self):
        hold = current_hold()
        if hold is not None:
            self.strategy.notes.append((hold.depth, hold.lend(), hold.reclaim(), variable.get()))
        for outcome in self.strategy.inner.stream(self.tasks):
            if self.outbox.put(outcome):
                self.outbox.wait_for_room(PATIENCE)
        self.over = True
        self.outbox.ring()

    @property
    def finished(self):
        return self.over

    def stop(self, give_up_at):
        pass

    def give_up(self):
        return False

    def end(self):
        self.thread.join(PATIENCE)


def test_a_thread_that_works_for_a_task_cannot_lend_its_slot(engine):
    """It knows depth and context; who waits lends, so with one slot children run, one at a time."""
    notes = []
    running = threading.Lock()

    def leaf():
        with running:
            return 1

    def parent(_item):
        variable.set("the parent's")
        values = nested([leaf] * 20)
        assert running.acquire(blocking=False)  # nobody runs on the slot that is ours again
        running.release()
        return sum(values)

    with ThreadPoolStrategy(max_workers=1) as inner:
        report = engine.map(parent, range(4), strategy=Beside(inner, notes))

    assert report.values == [20] * 4
    assert notes == [(0, False, None, "the parent's")] * 4


def test_outside_of_a_task_a_thread_has_the_context_alone():
    """There is no slot that somebody could lend."""
    variable.set("the caller's")
    context = thread_context()

    assert context.run(lambda: (variable.get(), current_hold())) == ("the caller's", None)


def test_what_one_strategy_runs_is_run_by_the_other(engine):
    """The plain road through the parts: every outcome comes, in any number."""
    with Beside(ThreadPoolStrategy(max_workers=2), []) as strategy:
        assert engine.map(abs, range(-500, 0), strategy=strategy).values == list(range(500, 0, -1))
        assert strategy.run_tasks([lambda: invoke.__name__]) == ["invoke"]
