"""A run at the limit, some of whose calls never return: it ends, and delivers all the others."""

import asyncio
import threading
import time

import pytest

from stratagem import Engine

pytestmark = pytest.mark.once

TASKS = 2_000
EVERY = 200  # one in 200 hangs: 0.5 %
TIMEOUT = 2.0
GRACE = 1.0
MOST = 30.0
forever = threading.Event()


def call(number):
    if number % EVERY == EVERY - 1:
        forever.wait()
    return number


async def call_async(number):
    if number % EVERY == EVERY - 1:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    await asyncio.sleep(0.001)
    return number


@pytest.mark.parametrize(
    ("spec", "function"),
    [
        (f"threads(max_workers=32, grace={GRACE})", call),
        (f"asyncio(max_concurrency=32, grace={GRACE})", call_async),
        (f"asyncio(max_concurrency=32, grace={GRACE})", call),
        (f"processes(max_workers=4, grace={GRACE})", call),
    ],
    ids=["threads", "asyncio", "asyncio-sync", "processes"],
)
def test_calls_that_hang_cost_only_themselves(spec, function):
    """Each ends at its timeout, whatever it swallows; every other is delivered."""
    began = time.monotonic()
    with Engine(spec) as engine:
        report = engine.map(function, range(TASKS), timeout=TIMEOUT, log="critical")
    seconds = time.monotonic() - began

    hanging = range(EVERY - 1, TASKS, EVERY)
    assert [outcome.index for outcome in report.failures] == list(hanging)
    assert {outcome.status for outcome in report.failures} == {"timeout"}
    assert [outcome.value for outcome in report if outcome.ok] == [
        number for number in range(TASKS) if number not in hanging
    ]
    assert seconds < MOST


@pytest.mark.parametrize(
    ("spec", "function"),
    [
        (f"threads(max_workers=32, grace={GRACE})", call),
        (f"asyncio(max_concurrency=32, grace={GRACE})", call_async),
        (f"processes(max_workers=12, grace={GRACE})", call),
    ],
    ids=["threads", "asyncio", "processes"],
)
def test_a_run_that_is_stopped_waits_for_the_hanging_no_longer_than_the_grace(spec, function):
    """Without a timeout what hangs is given up when the run is closed, and the rest is there."""
    with Engine(spec) as engine:
        stream = engine.stream_map(function, range(TASKS), keep=None, log="critical")
        delivered = {next(stream).index for _ in range(TASKS - TASKS // EVERY)}
        began = time.monotonic()
        stream.close()
        seconds = time.monotonic() - began

    hanging = set(range(EVERY - 1, TASKS, EVERY))
    assert delivered == set(range(TASKS)) - hanging
    assert {outcome.index for outcome in stream.report.failures} == hanging
    assert seconds < MOST / 2
