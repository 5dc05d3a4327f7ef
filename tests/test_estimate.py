"""The estimate of the time that a run will still take, as a pure function."""

import random

import pytest

from stratagem_builtin.estimate import expected_longest, expected_rest, seconds_left

FIXED = [2.0] * 20


@pytest.mark.parametrize(
    ("waiting", "ages", "slots", "left"),
    [
        (0, [], 4, 0.0),  # nothing is left
        (0, [0.5, 1.5], 4, 1.5),  # only the younger of two counts
        (8, [0.0] * 4, 4, 6.0),  # three rounds of four
        (2, [1.0] * 4, 4, 2.0),  # what waits begins when the first four end: never below one task
        (1, [], 1, 2.0),
    ],
)
def test_tasks_of_one_duration_are_foretold(waiting, ages, slots, left):
    """Where each task takes as long as the others the arithmetic is exact, or a bound."""
    assert seconds_left(waiting, ages, FIXED, slots) == pytest.approx(left)


def test_nothing_is_foretold_from_nothing():
    """Before the first task has ended nobody knows."""
    assert seconds_left(10, [1.0], [], 4) is None


def test_the_tail_counts():
    """Of 1,000 tasks of 1 s one in a hundred takes 60 s: the rate alone is wrong by that minute."""
    durations = [1.0] * 99 + [60.0]

    by_rate = 40 * 1.59 / 20
    left = seconds_left(40, [0.5] * 20, durations, 20)

    assert left > by_rate + 5
    assert left < 60 + by_rate


def test_one_that_hangs_behind_the_others_decides():
    """When nothing waits, the expected rest of the oldest is all there is."""
    durations = [1.0] * 90 + [30.0] * 10

    assert seconds_left(0, [0.1, 10.0], durations, 8) == pytest.approx(20.0)


def test_one_that_outlives_all_others_is_given_as_long_again():
    """What has run longer than anything seen is expected to go on, not to end at once."""
    assert expected_rest(100.0, [1.0, 2.0]) == 100.0
    assert expected_rest(1.5, [1.0, 2.0]) == 0.5


def test_the_longest_of_many_is_near_the_maximum():
    """Of one it is the mean, of very many the largest, and it grows between."""
    durations = [1.0, 2.0, 3.0, 4.0]
    longest = [expected_longest(count, durations) for count in (1, 2, 4, 100)]

    assert longest[0] == pytest.approx(2.5)
    assert longest == sorted(longest)
    assert longest[-1] == pytest.approx(4.0, abs=1e-6)


def test_it_is_right_about_simulated_runs():
    """Over heavy-tailed runs, looked at halfway, its error is smaller than that of the rate."""
    rng = random.Random(7)
    better, errors, by_rate = 0, [], []
    for _ in range(60):
        truth, estimate, rate = simulate(rng, tasks=120, slots=12)
        errors.append(abs(estimate - truth))
        by_rate.append(abs(rate - truth))
        better += errors[-1] <= by_rate[-1]

    assert better > 35
    assert sum(errors) < 0.85 * sum(by_rate)


def simulate(rng, *, tasks, slots):
    """Run tasks of lognormal length on slots; halfway give truth, estimate, and rate alone."""
    durations = [rng.lognormvariate(0, 1.2) for _ in range(tasks)]
    free, spans = [0.0] * slots, []
    for duration in durations:
        slot = min(range(slots), key=free.__getitem__)
        spans.append((free[slot], free[slot] + duration))
        free[slot] += duration
    now = sorted(end for _, end in spans)[tasks // 2]
    done = [end - begin for begin, end in spans if end <= now]
    ages = [now - begin for begin, end in spans if begin < now < end]
    waiting = tasks - len(done) - len(ages)
    rate = (waiting + len(ages)) * now / len(done)
    return max(free) - now, seconds_left(waiting, ages, done, slots), rate
