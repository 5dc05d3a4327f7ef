"""One call, made safe: what is imported meanwhile does not matter."""

import sys
from types import ModuleType

import pytest

from stratagem import Engine


@pytest.mark.parametrize("spec", ["sequential", "threads", "asyncio"])
@pytest.mark.parametrize("name", ["structlog.contextvars", "asyncio"])
def test_a_module_that_another_thread_imports_right_now_harms_no_task(monkeypatch, spec, name):
    """A module stands in ``sys.modules`` before there is anything in it."""
    with Engine(spec) as engine:
        engine.map(abs, [-1])
        if (name, spec) != ("asyncio", "asyncio"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        report = engine.map(abs, [-1, -2])

    assert report.values == [1, 2]
