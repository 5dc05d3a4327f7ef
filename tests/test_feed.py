"""A feed: what the upstream gives and what is put beside it, until all of it is settled."""

import threading
import time
from collections import Counter

import attrs
import pytest

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


def test_a_feed_gives_what_the_upstream_gives():
    """Tasks of the upstream pass through in order; settled as they come, they end the feed."""
    feed = Feed(upstream_of(3))
    seen = []

    for task in feed:
        seen.append(task.index)
        feed.settle(task)

    assert seen == [0, 1, 2]


def test_what_is_put_goes_before_the_upstream():
    """A task that is put during iteration is the next one handed out."""
    feed = Feed(upstream_of(3))
    seen = []

    for task in feed:
        seen.append((task.index, task.attempt))
        if task.index == 1 and task.attempt < 3:
            feed.put(attrs.evolve(task, attempt=task.attempt + 1))
        else:
            feed.settle(task)

    assert seen == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]


def test_what_is_put_for_later_comes_in_the_order_of_its_times():
    """Each task comes when its seconds are over and not before, whatever the order of the puts."""
    feed = Feed()
    delays = {0: 0.09, 1: 0.03, 2: 0.06, 3: 0.0}
    put_at = {}
    for index, delay in delays.items():
        put_at[index] = time.monotonic()
        feed.put(make_task(index), after=delay)

    came = []
    for task in feed:
        came.append(task.index)
        assert delays[task.index] <= time.monotonic() - put_at[task.index] < PATIENCE
        feed.settle(task)

    assert came == [3, 1, 2, 0]


def test_tasks_of_one_time_come_in_the_order_they_were_put(monkeypatch):
    """Two tasks that are due at the same moment do not overtake each other."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    feed = Feed()
    for index in (2, 0, 1):
        feed.put(make_task(index), after=1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 101.0)

    came = [feed.poll().index for _ in range(3)]

    assert came == [2, 0, 1]


def test_poll_tells_how_long_the_next_one_takes(monkeypatch):
    """The wait is that of the earliest task put for later, less the time that has passed."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    feed = Feed()
    feed.put(make_task(0), after=50.0)
    feed.put(make_task(1), after=20.0)
    monkeypatch.setattr(time, "monotonic", lambda: 105.0)

    assert feed.poll() == Wait(15.0)


def test_poll_gives_the_shorter_of_two_waits():
    """An upstream that says to wait less than the feed would is believed."""
    upstream = Door()
    upstream.poll = lambda: Wait(2.0)
    feed = Feed(upstream)
    feed.put(make_task(0), after=3600.0)

    assert feed.poll() == Wait(2.0)


@pytest.mark.parametrize("after", [0.0, 0.02])
def test_a_put_wakes_one_who_sleeps_for_longer(after):
    """A taker that sleeps towards a far time takes what is put for sooner."""
    feed = Feed(Door())
    feed.put(make_task(0), after=3600.0)
    taken = []
    taker = start(lambda: taken.append(feed.take()))

    feed.put(make_task(1), after=after)
    join(taker)

    assert [task.index for task in taken] == [1]


def test_a_feed_is_over_only_when_everything_is_settled():
    """While a task is out the feed says to wait; when the last is settled it ends for everyone."""
    feed = Feed(upstream_of(1))
    heard = []
    feed.subscribe(lambda: heard.append(feed.poll()))
    task = feed.take()
    still_open = feed.poll()
    ends = []
    takers = [start(lambda: ends.append(feed.take())) for _ in range(8)]

    feed.settle(task)
    join(*takers)

    assert still_open == Wait()
    assert ends == [None] * 8
    assert heard[-1] is None
    assert feed.poll() is None


def test_a_feed_of_nothing_is_over():
    """A feed without upstream and without tasks gives None, and ends no one by waiting."""
    feed = Feed()

    assert [feed.poll(), feed.take(), list(feed)] == [None, None, []]


def test_a_feed_alone_gives_what_was_put():
    """Without an upstream a feed is a source of what is put, over when that is settled."""
    feed = Feed()
    feed.put(make_task(0))
    feed.put(make_task(1))

    first, second, third = feed.poll(), feed.poll(), feed.poll()

    assert [first.index, second.index, third] == [0, 1, Wait()]


def test_the_task_of_an_outcome_is_the_one_handed_out():
    """Given an outcome, a feed gives the very task, with the attempt that was put last."""
    feed = Feed(upstream_of(1))
    first = feed.take()
    second = attrs.evolve(first, attempt=2)
    feed.put(second)
    feed.take()

    assert feed.task(outcome_of(first)) is second


@pytest.mark.parametrize("became", ["settled", "put back", "never handed out"])
def test_the_task_of_an_outcome_nobody_waits_for_is_an_error(became):
    """An outcome of a task that is not out is refused by its index and key."""
    feed = Feed(upstream_of(2))
    task = feed.take() if became != "never handed out" else make_task(9)
    if became == "settled":
        feed.settle(task)
    elif became == "put back":
        feed.put(task)

    with pytest.raises(LookupError) as caught:
        feed.task(outcome_of(task))

    assert str(caught.value) == (
        f"no task with index {task.index} (key '{task.index}') is out; "
        "it was never handed out by this feed, or it is settled already"
    )


def test_a_feed_on_a_feed_on_a_feed():
    """Three feeds in a row each put tasks again, and the whole ends when all have settled."""
    inner = Feed(upstream_of(3))
    middle = Feed(inner)
    outer = Feed(middle)
    seen = []

    for task in outer:
        seen.append((task.index, task.attempt))
        outer.settle(task)
        if task.attempt == 1:
            middle.put(attrs.evolve(task, attempt=2))
        elif task.attempt == 2:
            middle.settle(task)
            inner.put(attrs.evolve(task, attempt=3))
        else:
            middle.settle(task)
            inner.settle(task)

    assert Counter(seen) == Counter((index, n) for index in range(3) for n in (1, 2, 3))
    assert [inner.poll(), middle.poll()] == [None, None]


def test_a_feed_hurries_with_its_upstream_and_the_upstream_with_it():
    """Whoever is told to wait for nothing, both ends of the chain know, and are closed."""
    above, below = upstream_of(3), upstream_of(3)
    from_above, from_below = Feed(Feed(above)), Feed(Feed(below))
    before = [source.hurried for source in (above, from_above, below, from_below)]
    above.hurry()
    from_below.hurry()

    assert before == [False] * 4
    assert all(source.hurried for source in (above, from_above, below, from_below))
    assert all(source.closed for source in (above, from_above, below, from_below))
    assert from_above.poll() is None


def test_hurrying_after_closing_wakes_the_subscribers_again():
    """Who waits out a grace hears that there is none any more."""
    feed, heard = Feed(upstream_of(3)), []
    feed.subscribe(lambda: heard.append((feed.closed, feed.hurried)))
    feed.close()
    closed = len(heard)
    feed.hurry()

    assert set(heard[:closed]) == {(True, False)}
    assert (True, True) in heard[closed:]
