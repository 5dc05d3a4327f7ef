"""The lifecycle log: what is logged, at which level, and that nothing private ever is."""

import json
import logging
import re
import sys
from functools import partial

import cloudpickle
import pytest
import structlog

from stratagem import Engine, nested
from stratagem.testing import tasks
from stratagem_builtin.lifecycle_log import JsonLines

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

SPECS = ["sequential", "threads(max_workers=2)", "processes(max_workers=2)", "asyncio"]
SECRET = "sk-do-not-tell"


@pytest.fixture(autouse=True)
def _fresh_loggers():
    """Leave the level and handlers of the standard loggers as they were."""
    names = ["stratagem", *(f"stratagem.{level}" for level in ("debug", "info", "warning"))]
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    yield
    for logger, level in before:
        logger.setLevel(level)


def ask(secret):
    local = secret
    if local.endswith("3"):
        raise ValueError(f"{secret} is wrong")
    return f"the answer to {local}"


def lines(caplog):
    return [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name.startswith("stratagem") and record.getMessage().startswith("{")
    ]


def events(caplog, **wanted):
    return [
        line["event"]
        for line in lines(caplog)
        if all(line.get(name) == value for name, value in wanted.items())
    ]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("level", "started"), [("debug", ["task_started"]), ("info", []), (True, [])]
)
def test_each_task_has_its_lines_in_order(engine, caplog, spec, level, started):
    """Begin, task by task start and end, and the end of the run; ``info`` leaves starts out."""
    with caplog.at_level(logging.DEBUG if level == "debug" else logging.INFO, "stratagem"):
        engine.map(ask, [f"{SECRET}-{n}" for n in (1, 3)], strategy=spec, log=level)

    assert events(caplog, task_key="0") == [*started, "task_succeeded"]
    assert events(caplog, task_key="1") == [*started, "task_failed"]
    everything = events(caplog)
    assert (everything[0], everything[-1]) == ("run_started", "run_finished")
    assert len(everything) == 2 + 2 + 2 * len(started)


@pytest.mark.parametrize("spec", SPECS)
def test_a_line_names_run_task_strategy_worker_time_attempts_and_error(engine, caplog, spec):
    """The facts of a failed task stand in its line, by name."""
    with caplog.at_level(logging.INFO, "stratagem"):
        report = engine.map(ask, [f"{SECRET}-3"], strategy=spec, log="info", key=lambda _: "ada")

    [line] = [line for line in lines(caplog) if line["event"] == "task_failed"]
    outcome = report[0]
    expected = {
        "run_id": report.run_id,
        "strategy": spec,
        "task_key": "ada",
        "name": "ask",
        "status": "error",
        "worker": outcome.worker,
        "seconds": round(outcome.seconds, 6),
        "attempts": 1,
        "error_type": "ValueError",
    }
    assert {name: line[name] for name in expected} == expected


@pytest.mark.parametrize("spec", SPECS)
def test_arguments_values_messages_and_locals_are_never_logged(engine, caplog, spec):
    """Even at ``debug`` nothing that a task was given, made or said of its failure is logged."""
    with caplog.at_level(logging.DEBUG, "stratagem"):
        engine.map(ask, [f"{SECRET}-{n}" for n in range(5)], strategy=spec, log="debug")

    assert len(lines(caplog)) == 2 + 2 * 5
    assert SECRET not in caplog.text
    assert "the answer to" not in caplog.text


def test_a_run_that_nobody_asked_to_log_is_quiet_but_for_failures(engine, caplog):
    """Without ``log=`` success says nothing; a failure is a warning."""
    engine.map(ask, [f"{SECRET}-1"] * 3, strategy="threads")
    quiet = list(caplog.records)
    engine.map(ask, [f"{SECRET}-3"], strategy="threads")

    assert quiet == []
    assert events(caplog) == ["task_failed"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("level", ["error", "critical"])
def test_a_run_can_be_asked_to_be_quiet_of_failures_too(engine, caplog, level):
    """Neither its tasks that fail nor those nested in it are a line; other runs still speak."""

    def parent(number):
        return nested([partial(tasks.fail_at_three, number)])

    engine.map(parent, [3, 4], strategy="threads", log=level)
    quiet = list(caplog.records)
    engine.map(tasks.fail_at_three, [3], strategy="threads")

    assert (quiet, len(caplog.records)) == ([], 1)


def test_the_counts_of_the_run_stand_in_its_last_line(engine, caplog):
    """``run_finished`` says how many ended how, and why the run stopped if it did."""
    with caplog.at_level(logging.INFO, "stratagem"):
        engine.map(
            ask,
            [f"{SECRET}-{n}" for n in (1, 3, 1, 3, 1)],
            strategy="sequential",
            log="info",
            max_errors=2,
        )

    [line] = [line for line in lines(caplog) if line["event"] == "run_finished"]
    assert (line["ok"], line["error"], line["stopped"]) == (2, 2, "max_errors")


def test_a_nested_run_names_the_task_that_started_it(engine, caplog):
    """Lines of children carry the run and key of their parent."""

    def parent(_item):
        return nested([lambda: 1])

    with caplog.at_level(logging.INFO, "stratagem"):
        report = engine.map(parent, ["a"], strategy="threads", log="info", key=str)

    children = [line for line in lines(caplog) if "parent_key" in line]
    assert [line["event"] for line in children] == ["run_started", "task_succeeded", "run_finished"]
    assert {(line["parent_run_id"], line["parent_key"]) for line in children} == {
        (report.run_id, "a")
    }


@pytest.mark.parametrize("spec", SPECS)
def test_a_line_logged_inside_a_task_carries_run_and_key(caplog, spec):
    """Any logger's record made in a task, whichever process it ran in, says in which."""

    def work(_item):
        logging.getLogger("agents").warning("asking")

    with Engine(spec) as engine:
        report = engine.map(work, ["a", "b"], key=str)
        logging.getLogger("agents").warning("outside")

    stamped = [
        (record.stratagem_run_id, record.stratagem_task_key)
        for record in caplog.records
        if record.name == "agents"
    ]
    assert sorted(stamped[:-1]) == [(report.run_id, "a"), (report.run_id, "b")]
    assert stamped[-1] == ("", "")


def test_a_level_there_is_not_is_told():
    """A wrong ``log=`` names the levels there are."""
    with Engine() as engine, pytest.raises(ValueError, match="log must be .* not 'loud'") as caught:
        engine.map(abs, [-1], strategy="sequential", log="loud")

    assert "debug" in str(caught.value)


def test_each_event_is_one_line_of_json_on_stderr_by_default(run_script):
    """A program without any logging of its own gets lines that a machine can read."""
    printed = run_script("""
import contextlib, io, json, stratagem
caught = io.StringIO()
with contextlib.redirect_stderr(caught):
    stratagem.map(abs, [-1, -2], strategy="sequential", log="debug")
print([json.loads(line)["event"] for line in caught.getvalue().splitlines()])
""")

    assert (
        printed
        == str(
            [
                "run_started",
                "task_started",
                "task_succeeded",
                "task_started",
                "task_succeeded",
                "run_finished",
            ]
        )
        + "\n"
    )


def test_lines_are_those_that_structlog_would_write(caplog):
    """The same text, to the byte, as from a bound logger with a renderer of JSON."""
    shared = {"run_id": "a1", "strategy": "threads('\u00fc\\n')"}
    logger = logging.getLogger("stratagem.debug")
    theirs = structlog.wrap_logger(
        logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind(**shared)
    facts = {"task_key": "k \u2028", "name": "%s %d", "seconds": 1e-06, "total": None, "odd": {1}}

    with caplog.at_level(logging.DEBUG, "stratagem.debug"):
        for level in ("debug", "info", "warning"):
            getattr(JsonLines(logger, shared), level)("an_event", **facts)
            getattr(theirs, level)("an_event", **facts)

    written = [(record.levelno, timeless(record.getMessage())) for record in caplog.records]
    assert written[0::2] == written[1::2]
    assert [level for level, _ in written[0::2]] == [logging.DEBUG, logging.INFO, logging.WARNING]


def timeless(line):
    """Put a letter in the place of each digit of the timestamp, whose form stays."""
    head, found, time = line.partition('"timestamp": ')
    assert found
    return head + re.sub(r"\d", "d", time)


def test_a_line_below_the_level_of_the_logger_is_not_written(caplog):
    """Nor is it rendered."""
    logger = logging.getLogger("stratagem.warning")

    with caplog.at_level(logging.WARNING, "stratagem.warning"):
        JsonLines(logger, {}).info("an_event", thing=Unreadable())

    assert caplog.records == []


class Unreadable:
    def __repr__(self):
        raise AssertionError("rendered")


def test_a_run_goes_by_how_structlog_is_configured_when_it_begins(engine, caplog):
    """Configured, lines go through those processors; from when it is reset, they are JSON."""
    captured = structlog.testing.LogCapture()
    structlog.configure(
        processors=[captured],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    try:
        with caplog.at_level(logging.INFO, "stratagem"):
            engine.map(ask, ["1", "3"], strategy="sequential", log="info")
            unwritten = lines(caplog)
            structlog.reset_defaults()
            engine.map(ask, ["1"], strategy="sequential", log="info")
    finally:
        structlog.reset_defaults()

    told = ["run_started", "task_succeeded", "task_failed", "run_finished"]
    assert [entry["event"] for entry in captured.entries] == told
    assert {entry["strategy"] for entry in captured.entries} == {"sequential"}
    assert unwritten == []
    assert events(caplog) == ["run_started", "task_succeeded", "run_finished"]


def test_a_run_that_is_logged_does_not_import_structlog(run_script):
    """Who has not imported it has not configured it, and it is slow to import."""
    printed = run_script("""
import sys, stratagem
stratagem.map(abs, [-1], strategy="sequential", log="debug")
print("structlog" in sys.modules)
""")

    assert printed == "False\n"


def test_lines_go_to_what_stderr_is_when_they_are_written(run_script):
    """A display that stands in front of stderr gets them, and is not torn."""
    code = """
import io, sys, stratagem
instead = io.StringIO()
class Swap:
    def __call__(self, item):
        sys.stderr = instead
stratagem.map(Swap(), [1], strategy="sequential", log="info")
print("run_finished" in instead.getvalue())
"""
    assert run_script(code) == "True\n"
