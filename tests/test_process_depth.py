"""Results that are nested too deep for pickle, which would take the process with it."""

import pickle
import sys
from functools import partial
from itertools import pairwise

import attrs
import cloudpickle
import pytest

from stratagem import Engine
from stratagem.transport import DEEPEST, depth_exceeds

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

METHODS = ["fork", "forkserver", "spawn"]


@attrs.define
class Slotted:
    below: object = None


class Plain:
    def __init__(self, below=None):
        self.below = below


class Odd(list):
    def __iter__(self):
        raise OSError("not to be read")

    def __getattr__(self, name):
        raise OSError(name)


WRAPS = {
    "list": lambda below: [1, below, "x"],
    "tuple": lambda below: (below,),
    "dict value": lambda below: {"a": 1, "below": below},
    "set": lambda below: frozenset({1, below}),
    "slots": Slotted,
    "attributes": Plain,
    "partial": lambda below: partial(abs, below),
    "odd list": lambda below: Odd([below]),
}


def nest(wrap, depth):
    value = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("kind", WRAPS)
def test_depth_is_that_of_one_object_in_another(kind):
    """Whatever holds the other, and for as far as pickle goes."""
    assert not depth_exceeds(nest(WRAPS[kind], DEEPEST // 2), DEEPEST)
    assert depth_exceeds(nest(WRAPS[kind], DEEPEST * 3), DEEPEST)


def test_a_chain_is_as_deep_as_it_is_long_though_each_link_stands_near():
    """Pickle follows the first link to the end before it takes the second."""
    links = [Plain() for _ in range(DEEPEST * 2)]
    for link, following in pairwise(links):
        link.below = following

    assert depth_exceeds(links, DEEPEST)
    assert not depth_exceeds(links[::-1], DEEPEST)


def test_what_is_shared_or_circular_is_gone_through_once():
    """A value whose paths are past counting takes no time, and a circle ends."""
    value = []
    for _ in range(100):
        value = [value, value, value]
    circle = [1]
    circle.append(circle)

    assert not depth_exceeds(value, DEEPEST)
    assert not depth_exceeds(circle, DEEPEST)


def test_flat_values_are_not_deep():
    """Scalars, texts and long lists of them."""
    for value in (None, 3, "x" * 1_000, b"", 1j, list(range(10_000)), {"a": [1, 2]}, abs, Plain):
        assert not depth_exceeds(value, 2)


@pytest.mark.parametrize("kind", ["list", "dict value", "slots", "attributes", "partial"])
def test_what_is_not_too_deep_can_be_pickled_at_any_recursion_limit(kind):
    """The bound is far from the end of the stack of C."""
    value = nest(WRAPS[kind], DEEPEST // 2)
    assert not depth_exceeds(value, DEEPEST)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**7)
    try:
        pickled = pickle.dumps(value)
    finally:
        sys.setrecursionlimit(limit)

    assert pickled


@pytest.mark.parametrize("method", METHODS)
def test_a_result_nested_past_all_bounds_is_an_error_of_its_task(method):
    """Also where the task raised the recursion limit, which lets C use up its stack."""

    def work(number):
        if number != 7:
            return [number]
        sys.setrecursionlimit(10**7)
        return nest(WRAPS["list"], 100_000)

    with Engine(f"processes(max_workers=2, start_method='{method}')") as engine:
        report = engine.map(work, range(20))
        again = engine.map(abs, [-1, -2])

    assert [outcome.index for outcome in report.failures] == [7]
    assert (report[7].status, report[7].error.stage) == ("error", "encode_result")
    assert "is nested more than 500 deep" in str(report[7].error)
    assert again.values == [1, 2]
