"""Taking from a source: waiting, waking, ending, with many takers at once."""

import itertools
import threading
import time
from collections import Counter, deque

import pytest

from stratagem import Task, TaskSource, Wait

PATIENCE = 20.0


def make_task(index):
    return Task(index, str(index), "task", lambda: index)


class Shelf(TaskSource):
    """Hand out what a test lays on it."""

    def __init__(self, count=0, *, over=False):
        super().__init__()
        self.tasks = deque(map(make_task, range(count)))
        self.over = over
        self.polls = itertools.count()
        self.sleeping = threading.Semaphore(0)
        self._roused = WatchedCondition(self.sleeping)

    def poll(self):
        next(self.polls)
        over = self.over
        if self._closed:
            return None
        try:
            return self.tasks.popleft()
        except IndexError:
            return None if over else Wait()

    def lay(self, *indexes):
        self.tasks.extend(map(make_task, indexes))
        self.wake()

    def end(self):
        self.over = True
        self.wake()

    def until_asleep(self, takers):
        for _ in range(takers):
            assert self.sleeping.acquire(timeout=PATIENCE)
        with self._roused:
            self.polls = itertools.count()


class WatchedCondition(threading.Condition):
    """Count up a semaphore for each thread that goes to sleep."""

    def __init__(self, sleeping):
        super().__init__()
        self.sleeping = sleeping

    def wait(self, timeout=None):
        self.sleeping.release()
        return super().wait(timeout)


class Takers:
    """Be threads that take, once each or until the end."""

    def __init__(self, count, target, *args):
        self.taken = []
        self.threads = [
            threading.Thread(target=self._work, args=(target, args), daemon=True)
            for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def _work(self, target, args):
        self.taken.append(target(*args))

    def join(self):
        deadline = time.monotonic() + PATIENCE
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self.threads), "a taker hangs"
        return self.taken


def indexes_until_none(source):
    return [task.index for task in source]


def test_poll_never_waits_for_a_task():
    """Polling a source that has nothing says to wait instead of waiting."""
    shelf = Shelf()

    found = shelf.poll()

    assert found == Wait()


def test_take_gives_what_is_there_without_waiting():
    """Taking gives ready tasks in order, then None for good."""
    shelf = Shelf(3, over=True)

    taken = [shelf.take() for _ in range(5)]

    assert [task and task.index for task in taken] == [0, 1, 2, None, None]


def test_take_waits_and_is_woken():
    """A taker sleeps while there is nothing and gets the task that is laid then."""
    shelf = Shelf()
    takers = Takers(1, shelf.take)
    shelf.until_asleep(1)

    shelf.lay(7)

    assert [task.index for task in takers.join()] == [7]


def test_a_wake_without_a_task_lets_nobody_go():
    """A taker that is woken for nothing asks once and sleeps again."""
    shelf = Shelf()
    takers = Takers(1, shelf.take)
    shelf.until_asleep(1)

    shelf.wake()
    assert shelf.sleeping.acquire(timeout=PATIENCE)

    assert next(shelf.polls) == 1
    assert takers.taken == []
    shelf.close()
    takers.join()


def test_a_task_that_comes_between_poll_and_sleep_is_not_missed():
    """A wake between a poll for nothing and the sleep after it makes the taker ask again."""
    shelf = Shelf()
    polls = itertools.count(1)
    plain_poll = shelf.poll

    def poll():
        found = plain_poll()
        if next(polls) == 2:  # the last look before the sleep
            shelf.lay(3)
        return found

    shelf.poll = poll
    takers = Takers(1, shelf.take)

    assert [task.index for task in takers.join()] == [3]


def test_a_wait_ends_by_itself_when_its_seconds_are_over():
    """A taker asks again after the seconds that it was told to wait."""
    answers = deque([Wait(0.05), Wait(0.05), make_task(1)])
    shelf = Shelf()
    shelf.poll = answers.popleft
    began = time.monotonic()

    task = shelf.take()

    assert task.index == 1
    assert 0.05 <= time.monotonic() - began < PATIENCE


def test_a_wake_cuts_a_known_wait_short():
    """A taker that was told to wait an hour takes a task that is there now."""
    shelf = Shelf()
    plain_poll = shelf.poll
    shelf.poll = lambda: found if isinstance(found := plain_poll(), Task) else Wait(3600.0)
    takers = Takers(1, shelf.take)
    shelf.until_asleep(1)

    shelf.lay(5)

    assert [task.index for task in takers.join()] == [5]


@pytest.mark.parametrize(("tasks", "polls"), [(0, 1), (1, 2), (2, 3), (4, 4)])
def test_a_wake_rouses_one_who_rouses_the_next_if_it_found_work(tasks, polls):
    """One wake makes as many sleepers ask as there are tasks, and one more to see the end."""
    takers_in_all = 4
    shelf = Shelf()
    takers = Takers(takers_in_all, shelf.take)
    shelf.until_asleep(takers_in_all)

    shelf.lay(*range(tasks))
    for _ in range(polls - tasks):  # the one that found nothing sleeps again
        assert shelf.sleeping.acquire(timeout=PATIENCE)
    wait_until_counted(takers.taken, tasks)

    assert next(shelf.polls) == polls
    assert sorted(task.index for task in takers.taken) == list(range(tasks))
    shelf.close()
    takers.join()


def wait_until_counted(taken, count):
    deadline = time.monotonic() + PATIENCE
    while len(taken) < count and time.monotonic() < deadline:
        threading.Event().wait(0.001)


def test_none_is_final_for_every_taker():
    """When the source ends, every sleeper gets None, and so does everyone who asks later."""
    shelf = Shelf()
    takers = Takers(8, shelf.take)
    shelf.until_asleep(8)

    shelf.end()

    assert takers.join() == [None] * 8
    assert [shelf.take(), shelf.poll()] == [None, None]


def test_close_frees_every_sleeper_at_once():
    """Closing gives None to all who wait, and to all who come later, whatever is left."""
    shelf = Shelf()
    takers = Takers(8, shelf.take)
    shelf.until_asleep(8)

    shelf.close()
    shelf.lay(1)

    assert takers.join() == [None] * 8
    assert [shelf.take(), list(shelf)] == [None, []]


def test_close_may_be_called_again_and_from_any_thread():
    """Closing twice, from several threads at once, is the same as closing once."""
    shelf = Shelf(3)
    together = threading.Barrier(4, timeout=PATIENCE)

    def close():
        together.wait()
        shelf.close()
        return shelf.closed

    closers = Takers(4, close)

    assert closers.join() == [True] * 4
    assert shelf.take() is None


def test_subscribers_hear_of_every_wake_and_of_the_close():
    """Each subscriber is called once for each wake, a close being one."""
    shelf = Shelf()
    heard = []
    shelf.subscribe(lambda: heard.append("first"))
    shelf.subscribe(lambda: heard.append("second"))

    shelf.wake()
    shelf.lay(1)
    shelf.close()

    assert heard == ["first", "second"] * 3


def test_a_subscriber_that_is_told_finds_what_it_was_told_of():
    """By the time a subscriber is called, polling gives the task, or None after the close."""
    shelf = Shelf()
    found = []
    shelf.subscribe(lambda: found.append(shelf.poll()))

    shelf.lay(4)
    shelf.close()

    assert [task and task.index for task in found] == [4, None]


def test_many_threads_iterate_one_source_and_share_its_tasks():
    """Eight iterating threads get 20,000 tasks between them, each task once."""
    shelf = Shelf(20_000, over=True)

    shares = Takers(8, indexes_until_none, shelf).join()

    assert Counter(itertools.chain(*shares)) == Counter(range(20_000))


def test_many_threads_iterate_while_tasks_are_laid():
    """Tasks that are laid one by one among eight sleepy takers arrive once each, and all end."""
    shelf = Shelf()
    takers = Takers(8, indexes_until_none, shelf)

    for index in range(5_000):
        shelf.lay(index)
    shelf.end()

    assert Counter(itertools.chain(*takers.join())) == Counter(range(5_000))


@pytest.mark.parametrize("round_number", range(50))
def test_close_among_busy_takers_never_leaves_one_asleep(round_number):
    """A close in the midst of laying and taking frees everyone, and nothing comes twice."""
    shelf = Shelf()
    takers = Takers(4, indexes_until_none, shelf)

    for index in range(round_number * 4):
        shelf.lay(index)
    shelf.close()

    taken = Counter(itertools.chain(*takers.join()))
    assert taken <= Counter(range(round_number * 4))
