"""The conformance suite that every strategy must pass, over ``journal`` around others."""

from functools import partial

import pytest

from stratagem import TransportError
from stratagem.testing import StrategyConformance, tasks

SPECS = {
    "threads": "journal(threads(grace=0.5), {options})",
    "processes": "journal(processes(max_workers=2, grace=0.5), {options})",
    "sequential": "journal(sequential, {options})",
    "around retry": "journal(retry(asyncio(grace=0.5), attempts=2, wait_initial=0.01, "
    "wait_jitter=0), {options})",
    "in retry": "retry(journal(threads(grace=0.5), {options}), attempts=2, wait_initial=0.01, "
    "wait_jitter=0)",
}


EVERYWHERE = {"threads", "around retry"}


def marked(name):
    marks = [] if name in EVERYWHERE else [pytest.mark.once]
    return pytest.param(SPECS[name], id=name, marks=marks)


@pytest.fixture(params=[marked(name) for name in SPECS])
def stratagem_spec(request, tmp_path):
    """Keep each test in a file of its own, in which one batch may follow the other."""
    options = f"path={str(tmp_path / 'run.db')!r}, on_mismatch='rerun'"
    return request.param.format(options=options)


class TestJournal(StrategyConformance):
    """Run the whole suite."""

    def test_a_value_of_any_kind_costs_only_its_own_task(
        self, stratagem_engine, stratagem_strategy
    ):
        """Every value must travel here, to the disk: one that cannot is an error of its task."""
        calls = [tasks.return_lock, partial(tasks.square, 2)]
        report = stratagem_engine.run(calls, strategy=stratagem_strategy)

        assert (report[1].status, report[1].value) == ("ok", 4)
        assert isinstance(report[0].error, TransportError)
