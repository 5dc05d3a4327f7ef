"""The ring in shared memory: what a worker writes is read whole, in order, and once."""

import itertools
import os
import random
import signal

import pytest

from stratagem_builtin.ring import CAPACITY, LARGEST, Ring, allocate, record_at


class Rings:
    """Be both ends of one ring; ``read`` keeps what was read, and ``wait`` reads when it is full."""

    def __init__(self):
        self.memory = allocate()
        self.writer = Ring(self.memory, self.wait)
        self.reader = Ring(self.memory)
        self.seen = []
        self.waits = 0

    def read(self):
        records = self.reader.read()
        self.seen += [record_at(records, place) for place in range(len(records[0]))]

    def wait(self):
        self.waits += 1
        self.read()


def bodies_of(sizes, count):
    generator = random.Random(1)
    return [bytes([number % 256]) * generator.choice(sizes) for number in range(count)]


@pytest.mark.parametrize(
    "sizes",
    [[1], [0], [40], [1, 1, 1, 5], range(200), [1, LARGEST]],
    ids=["one", "nothing", "fixed", "few", "many", "large"],
)
def test_records_of_any_size_are_read_as_they_were_written(sizes):
    """Over several turns of the ring, however many are read at once."""
    rings, chance = Rings(), random.Random(2)
    bodies = bodies_of(sizes, 20_000 if max(sizes) < LARGEST else 60)
    for number, body in enumerate(bodies):
        if rings.writer.write(number, number % 3, number / 2, number / 4, body):
            rings.writer.publish()
            rings.read()
        rings.writer.begin(number + 1)
        if chance.random() < 0.01:
            rings.read()
    rings.writer.publish()
    rings.read()

    assert rings.seen == [
        (number, number % 3, number / 2, number / 4, body) for number, body in enumerate(bodies)
    ]


def test_a_full_ring_waits_for_its_reader():
    """Nothing is written over what was not read."""
    rings = Rings()
    bodies = bodies_of([LARGEST], 20)
    for number, body in enumerate(bodies):
        rings.writer.write(number, 0, 0.0, 0.0, body)
    rings.writer.publish()
    rings.read()

    assert rings.waits > 0
    assert [body for *_, body in rings.seen] == bodies


def test_half_of_the_room_taken_asks_for_a_reader():
    """Until it has read, each further record does."""
    rings = Rings()
    asks = [rings.writer.write(n, 0, 0.0, 0.0, bytes(1_000)) for n in range(CAPACITY // 1_100)]
    rings.writer.publish()
    rings.read()

    assert asks == sorted(asks)
    assert asks.index(True) * 1_033 == pytest.approx(CAPACITY / 2, abs=1_100)
    assert not rings.writer.write(0, 0, 0.0, 0.0, b"")


@pytest.mark.parametrize("sizes", [[8] * 6, [8, 9] * 3], ids=["of one size", "of two"])
def test_what_is_not_visible_yet_is_read_later(sizes):
    """A record is taken when all of its bytes are there, and none behind it before."""
    rings = Rings()
    for number, size in enumerate(sizes):
        rings.writer.write(number, 0, 0.0, 0.0, b"abcdef"[number : number + 1] * size)
    rings.writer.publish()
    third = bytes(rings.memory.buffer).index(b"c" * sizes[2])
    rings.memory.buffer[third : third + 1] = b"-"
    rings.read()
    before = [number for number, *_ in rings.seen]
    rings.memory.buffer[third : third + 1] = b"c"
    rings.read()

    assert before == [0, 1]
    assert [number for number, *_ in rings.seen] == [0, 1, 2, 3, 4, 5]


def test_the_task_that_runs_is_told_with_what_is_done():
    """When a task is seen to run, every record before it can be read."""
    rings = Rings()
    for number in range(1, 5):
        began = rings.writer.begin(number)
        assert rings.reader.running() == (number, began)
        rings.writer.write(number, 0, 0.0, 0.0, b"")
    rings.read()

    assert [number for number, *_ in rings.seen] == [1, 2, 3]
    rings.writer.publish()
    rings.read()
    assert [number for number, *_ in itertools.islice(rings.seen, 3, None)] == [4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_no_moment_shows_a_word_half_written():
    """Whoever looks, or kills, at any moment finds a task that runs, and a head that only grows."""
    rings = Rings()
    rings.writer.begin(1)
    child = os.fork()
    if child == 0:
        for number in itertools.count(2):
            rings.writer.begin(number)
    try:
        seen = [rings.reader.running() for _ in range(200_000)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert seen[-1][0] > 1
    assert min(number for number, _ in seen) >= 1
    assert min(began for _, began in seen) >= seen[0][1] > 0
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)
