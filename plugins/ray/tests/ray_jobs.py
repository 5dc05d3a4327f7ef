"""What tests have workers do; it travels by value, since no worker can import a test."""

import asyncio
import contextvars
import logging
import os
import sys
import threading
import time
from functools import partial

import cloudpickle

import stratagem
from stratagem.testing import mischief, tasks
from stratagem.testing.waiting import note, until

cloudpickle.register_pickle_by_value(sys.modules[__name__])

NAP = 0.05


def noted(path, number):
    note(path, number)
    return number


def noted_then(path, number, further):
    note(path, number)
    return further()


def nap(number):
    began = time.monotonic()
    time.sleep(NAP)
    return number, began, time.monotonic()


async def nap_async(number):
    began = time.monotonic()
    await asyncio.sleep(NAP)
    return number, began, time.monotonic()


def nap_within(budget, number):
    with budget:
        return nap(number)


def ask_naps(count):
    return stratagem.nested([partial(nap, number) for number in range(count)])


async def ask_naps_twice(count):
    calls = [partial(nap_async, number) for number in range(count)]
    one, two = await asyncio.gather(stratagem.nested_async(calls), stratagem.nested_async(calls))
    return one + two


def wait_unless_first(begun, gate, number):
    return mischief.wait(begun, gate) if number == 0 else tasks.square(number)


def speak(number):
    logging.getLogger("tests.ray_jobs").warning("task %d speaks", number)
    return os.getpid()


def long_text(size):
    return "x" * size


def ask_in_thread(number):
    """Have a child run from a thread of the task's own, as libraries do."""
    found = []
    context = contextvars.copy_context()
    ask = partial(context.run, stratagem.nested, [partial(tasks.square, number)])
    thread = threading.Thread(target=lambda: found.extend(ask()))
    thread.start()
    thread.join()
    return found[0]


def wait_and_tell_node(begun, gate):
    import ray

    note(begun, f"{os.getpid()} {ray.get_runtime_context().get_node_id()}")
    until(gate.exists)
