"""A feed among threads: nothing is lost, nothing hangs, nothing is settled twice."""

import random
import threading
import time
from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratagem import Feed, Outcome, Status, Task, TaskSource, Wait
from stratagem.intake import SequenceIntake

PATIENCE = 20.0


def make_task(index, item=None):
    return Task(index, str(index), "task", lambda: item)


def outcome_of(task):
    return Outcome(task.index, task.key, task.name, Status.OK)


def upstream_of(count):
    return SequenceIntake(range(count), make_task)


class Door(TaskSource):
    """Hold a feed open until a test says that nothing more will be put into it."""

    shut = False

    def poll(self):
        return None if self.shut or self._closed else Wait()

    def end(self):
        self.shut = True
        self.wake()


def start(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def join(*threads):
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


def test_an_upstream_that_says_none_to_one_does_not_end_the_feed_for_another():
    """While one taker still waits for the upstream's answer, the feed is not over."""
    asked, answer = threading.Event(), threading.Event()
    upstream = upstream_of(1)
    plain_poll = upstream.poll

    def slow_once():
        found = plain_poll()
        if isinstance(found, Task):
            asked.set()
            assert answer.wait(PATIENCE)
        return found

    upstream.poll = slow_once
    feed = Feed(upstream)
    taken = []
    slow = start(lambda: taken.append(feed.poll()))
    assert asked.wait(PATIENCE)

    meanwhile = feed.poll()
    answer.set()
    join(slow)

    assert meanwhile == Wait()
    assert [task.index for task in taken] == [0]
    feed.settle(taken[0])
    assert feed.poll() is None


class WatchedCondition(threading.Condition):
    """Say when somebody goes to sleep."""

    def __init__(self):
        super().__init__()
        self.sleeping = threading.Semaphore(0)

    def wait(self, timeout=None):
        self.sleeping.release()
        return super().wait(timeout)


def test_the_last_none_of_an_upstream_frees_who_could_not_be_told_before():
    """One who sleeps because another still waited for the upstream is woken when that one ends."""
    asked, answer = threading.Event(), threading.Event()
    upstream = upstream_of(0)
    upstream.poll = lambda: (
        None if asked.is_set() else (asked.set(), answer.wait(PATIENCE), None)[2]
    )
    feed = Feed(upstream)
    roused = feed._roused = WatchedCondition()
    slow = start(feed.poll)
    assert asked.wait(PATIENCE)
    sleeper = start(feed.take)
    assert roused.sleeping.acquire(timeout=PATIENCE)

    answer.set()

    join(slow, sleeper)
    assert feed.poll() is None


def test_no_lock_is_held_while_the_upstream_is_asked():
    """While one poll hangs in the upstream, everything else about the feed goes on."""
    asked, answer = threading.Event(), threading.Event()
    upstream = Door()
    upstream.poll = lambda: (asked.set(), answer.wait(PATIENCE), Wait())[2]
    feed = Feed(upstream)
    stuck = start(feed.poll)
    assert asked.wait(PATIENCE)
    done = []

    def everything_else():
        feed.put(make_task(1))
        task = feed.poll()
        done.append(feed.task(outcome_of(task)) is task)
        feed.settle(task)
        feed.wake()
        feed.close()
        done.append(feed.take())

    other = start(everything_else)
    join(other)
    answer.set()
    join(stuck)

    assert done == [True, None]


def test_closing_a_feed_closes_what_is_upstream():
    """A close of the last feed in a row reaches the root."""
    root = upstream_of(3)
    inner = Feed(root)
    outer = Feed(inner)

    outer.close()

    assert [source.closed for source in (root, inner, outer)] == [True, True, True]
    assert [source.poll() for source in (root, inner, outer)] == [None, None, None]


def test_closing_the_root_ends_the_feeds_above_it():
    """After a close at the root no feed hands out what was put, and who sleeps for it is freed."""
    root = upstream_of(1)
    outer = Feed(Feed(root))
    task = outer.take()
    outer.put(task, after=3600.0)
    ends = []
    takers = [start(lambda: ends.append(outer.take())) for _ in range(4)]

    root.close()
    join(*takers)
    outer.put(task)

    assert ends == [None] * 4
    assert [outer.closed, outer.poll()] == [True, None]


def test_subscribers_hear_of_puts_of_the_upstream_and_of_the_close():
    """A subscriber is called for each put, for each wake of the upstream, and for the close."""
    upstream = Door()
    feed = Feed(upstream)
    heard = []
    feed.subscribe(lambda: heard.append(True))
    counts = []

    for act in (lambda: feed.put(make_task(0)), upstream.wake, upstream.close, feed.close):
        heard.clear()
        act()
        counts.append(bool(heard))

    assert counts == [True, True, True, True]


def test_the_outcomes_of_one_stage_feed_the_next():
    """A consumer of one source puts tasks into a feed that others take from at the same time."""
    first = upstream_of(500)
    door = Door()
    second = Feed(door)
    answered = []

    def stage_one():
        for task in first:
            second.put(make_task(task.index + 1000))

    def stage_two():
        for task in second:
            answered.append(task.index)
            second.settle(task)

    writers = [start(stage_one) for _ in range(2)]
    readers = [start(stage_two) for _ in range(4)]
    join(*writers)
    door.end()
    join(*readers)

    assert Counter(answered) == Counter(range(1000, 1500))


def play(again, takers, delays):
    """Have ``takers`` threads take every task, putting each again as often as ``again`` says."""
    feed = Feed(Feed(upstream_of(len(again))))
    handed_out, settled = [], []

    def work():
        for task in feed:
            handed_out.append((task.index, task.attempt))
            if task.attempt <= again[task.index]:
                delay = delays[(task.index + task.attempt) % len(delays)]
                feed.put(attrs.evolve(task, attempt=task.attempt + 1), after=delay)
            else:
                settled.append(task.index)
                feed.settle(task)
                feed._upstream.settle(task)

    join(*[start(work) for _ in range(takers)])
    assert Counter(settled) == Counter(range(len(again)))
    expected = Counter((index, n + 1) for index, more in enumerate(again) for n in range(more + 1))
    assert Counter(handed_out) == expected


@pytest.mark.parametrize("seed", range(60))
def test_every_task_is_settled_once_whatever_is_put_again(seed):
    """Eight takers that put tasks again at random settle each one once, and all of them end."""
    chance = random.Random(seed)
    again = [chance.randrange(4) for _ in range(100)]

    play(again, takers=8, delays=[0.0, 0.0, 0.001, 0.003])


@settings(max_examples=40, deadline=None)
@given(
    again=st.lists(st.integers(0, 3), max_size=30),
    takers=st.integers(1, 5),
    delays=st.lists(st.sampled_from([0.0, 0.0005, 0.002]), min_size=1, max_size=4),
)
def test_any_plan_of_putting_again_comes_to_its_end(again, takers, delays):
    """Whatever is put again, however often and however late, the feed ends with all settled."""
    play(again, takers, delays)
