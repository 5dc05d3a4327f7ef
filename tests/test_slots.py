"""The budget of a strategy: who runs, who waits for a slot, who lent one."""

import random
import threading
import time

import attrs
import pytest

from stratagem.slots import Slot, Slots, depth_below

PATIENCE = 20.0


@attrs.define(eq=False)
class Taker:
    """Note its wakes, in a list that several may share."""

    name: str
    depth: int = 0
    wakes: list = attrs.field(factory=list)

    def wake(self):
        self.wakes.append(self.name)


def takers(*depths):
    wakes = []
    return wakes, [Taker(f"{depth}-{n}", depth, wakes) for n, depth in enumerate(depths)]


def start(target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be"
        threading.Event().wait(0.001)


def test_no_more_start_than_the_limit():
    """So many as the limit says may start, the next one may not."""
    slots = Slots(2)
    _, (taker,) = takers(0)

    started = [slots.start(taker) for _ in range(4)]

    assert (started, slots.free) == ([True, True, False, False], 0)


def test_a_slot_that_is_given_up_wakes_the_one_that_wanted_it():
    """Who was refused is woken, once for all its refusals, when a slot is free."""
    slots = Slots(1)
    wakes, (first, second) = takers(0, 0)
    slots.start(first)
    refused = [slots.start(second), slots.start(second)]

    slots.stop()
    slots.stop()

    assert (refused, wakes) == ([False, False], ["0-1"])


def test_the_deepest_is_woken_first_and_equals_take_turns():
    """Children go before their ancestors; streams of one depth are woken as they came."""
    slots = Slots(1)
    wakes, (shallow, deep, deeper, deep_too) = takers(0, 1, 2, 1)
    slots.start(shallow)
    for taker in (shallow, deep, deeper, deep_too):
        assert not slots.start(taker)

    for _ in range(5):
        slots.stop()

    assert wakes == ["2-2", "1-1", "1-3", "0-0"]


def test_a_parent_that_returns_goes_before_every_start():
    """A parent that wants its slot back gets the next one, and nobody is woken for it."""
    slots = Slots(1)
    wakes, (deep,) = takers(5)
    parent = Slot(slots, 0)
    slots.start(deep)
    parent.lend()
    slots.start(deep)
    refused = slots.start(deep)
    back = start(parent.reclaim)
    until(lambda: slots.contended and slots.must_yield(deep))

    slots.stop()
    back.join(PATIENCE)

    assert not back.is_alive()
    assert (refused, wakes, slots.start(deep)) == (False, [], False)


def test_parents_return_in_the_order_they_asked():
    """Of several parents that wait, the one that has waited longest goes first."""
    slots = Slots(1)
    _, (child,) = takers(1)
    slots.start(child)
    order, backs = [], []
    for name in ("first", "second", "third"):
        backs.append(start(lambda name=name: (slots.resume(), order.append(name), slots.stop())))
        until(lambda: len(slots._returning) == len(backs))

    slots.stop()
    for back in backs:
        back.join(PATIENCE)

    assert (order, slots.free) == (["first", "second", "third"], 1)


def test_a_slot_is_lent_once_and_given_up_once():
    """Lending twice, or after giving up, frees nothing a second time."""
    slots = Slots(1)
    _, (taker,) = takers(0)
    slots.start(taker)
    slot = Slot(slots, 0)

    lent = [slot.lend(), slot.lend()]
    free_while_lent = slots.free
    slot.give_up()
    after = [slot.lend(), slots.free]

    assert (lent, free_while_lent, after) == ([True, True], 1, [False, 1])


def test_a_slot_is_taken_back_by_the_last_that_waited():
    """While any part of a task waits, the slot is there for what it waits for."""
    slots = Slots(1)
    _, (taker,) = takers(0)
    slots.start(taker)
    slot = Slot(slots, 0)
    slot.lend()
    slot.lend()

    slot.reclaim()
    free_while_one_waits = slots.free
    slot.reclaim()

    assert (free_while_one_waits, slots.free) == (1, 0)


def test_two_parts_of_a_task_take_the_one_slot_back_together():
    """One that is held up as it returns does not wait for a slot that its own task has by then."""
    slots, inside, go = Slots(1), threading.Event(), threading.Event()
    assert slots.start(Taker("parent"))
    slot, resume = Slot(slots, 0), slots.resume

    def held_up():
        inside.set()
        go.wait(PATIENCE)
        resume()

    slots.resume = held_up
    slot.lend()
    first = start(slot.reclaim)
    inside.wait(PATIENCE)
    slots.resume = resume
    slot.lend()
    second = start(slot.reclaim)
    go.set()
    first.join(PATIENCE)
    second.join(PATIENCE)

    assert not (first.is_alive() or second.is_alive())
    assert slots.free == 0
    slot.give_up()
    assert slots.free == 1


def test_a_slot_given_up_while_lent_is_not_kept_on_return():
    """A parent that was abandoned while it waited gives what it takes back on at once."""
    slots = Slots(1)
    _, (taker,) = takers(0)
    slots.start(taker)
    slot = Slot(slots, 0)
    slot.lend()

    slot.give_up()
    slot.reclaim()

    assert slots.free == 1


def test_forgetting_one_passes_its_wake_to_the_next():
    """A stream that ends with a slot free that it was woken for leaves it to another."""
    slots = Slots(1)
    wakes, (first, second) = takers(0, 0)
    slots.join(first)
    slots.join(second)
    slots.start(first)
    for taker in (first, second):
        slots.start(taker)
    slots.stop()  # wakes the first, which ends instead

    slots.forget(first)

    assert wakes == ["0-0", "0-1"]


def test_one_that_is_forgotten_is_woken_no_more():
    """A stream that is over does not stand in line."""
    slots = Slots(1)
    wakes, (first, second) = takers(0, 0)
    slots.join(first)
    slots.join(second)
    slots.start(first)
    slots.start(second)

    slots.forget(second)
    slots.stop()

    assert wakes == []


@pytest.mark.parametrize(
    ("mine", "other", "yields"), [(0, 0, True), (0, 1, True), (1, 0, False), (2, 2, True)]
)
def test_a_worker_yields_to_equals_and_deeper_ones(mine, other, yields):
    """Between two tasks a worker makes room for who waits, unless that is its own ancestor."""
    slots = Slots(1)
    _, (me, rival) = takers(mine, other)
    slots.join(me)
    slots.join(rival)
    slots.start(me)
    alone = slots.must_yield(me)

    slots.start(rival)

    assert (alone, slots.contended, slots.must_yield(me)) == (False, True, yields)


def test_a_stream_within_a_task_is_one_deeper():
    """Depth counts from the slot that the task holds; outside of any it is 0."""
    assert [depth_below(None), depth_below(Slot(Slots(1), 4))] == [0, 5]


class Budget:
    """Run jobs on slots, with children within them, and count how many run at once."""

    def __init__(self, limit, seed):
        self.slots = Slots(limit)
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.running = self.most = self.ended = 0

    def occupy(self, depth):
        slot = self.taken(depth)
        self.count(1)
        for _ in range(self.chance.randrange(3) if depth < 4 else 0):
            self.count(-1)
            slot.lend()
            self.occupy(depth + 1)
            slot.reclaim()
            self.count(1)
        self.count(-1)
        slot.give_up()
        with self.lock:
            self.ended += depth == 0

    def taken(self, depth):
        taker = Patient(depth)
        self.slots.join(taker)
        while not self.slots.start(taker):
            assert taker.woken.wait(PATIENCE), "a wake was lost"
            taker.woken.clear()
        self.slots.forget(taker)
        return Slot(self.slots, depth)

    def count(self, step):
        with self.lock:
            self.running += step
            self.most = max(self.most, self.running)


@attrs.define(eq=False)
class Patient:
    """Wait to be woken."""

    depth: int
    woken: threading.Event = attrs.field(factory=threading.Event)

    def wake(self):
        self.woken.set()


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_the_limit_holds_whatever_is_lent_and_taken_back(limit, seed):
    """Jobs with children to any depth run through, never more at once than the limit says."""
    budget = Budget(limit, seed)

    jobs = [start(lambda: [budget.occupy(0) for _ in range(5)]) for _ in range(8)]
    for job in jobs:
        job.join(PATIENCE)

    assert (budget.ended, budget.running, budget.slots.free) == (40, 0, limit)
    assert 1 <= budget.most <= limit
