"""Plugins as distributions: built and installed on the spot, loaded, broken, blocked, clashing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stratagem import (
    AmbiguousStrategyError,
    Engine,
    ExecutionStrategy,
    StrategyInfo,
    UnknownStrategyError,
    hookimpl,
)
from stratagem.plugins import PluginRow, Plugins, PluginState

DISTRIBUTIONS = Path(__file__).with_name("distributions")
MODULES = ["stratagem_patient", "stratagem_broken", "patient_twin", "stratagem_unwanted"]
VARIABLES = ["STRATAGEM_PLUGINS", "STRATAGEM_DISABLE_PLUGIN_AUTOLOAD", "STRATAGEM_STRATEGY"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build and install every distribution of the folder beside this file."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = shutil.copytree(DISTRIBUTIONS, folder / "sources")
    target = folder / "installed"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, *sources.iterdir()],
        check=True,
        timeout=120,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    return target


@pytest.fixture
def site(installed, monkeypatch):
    """Make this process see what is installed, and forget it afterwards."""
    monkeypatch.syspath_prepend(installed)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield installed
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def python(installed):
    """Run a program in an interpreter that has the plugins installed."""

    def run(program, **variables):
        inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=inherited | {"PYTHONPATH": str(installed)} | variables,
        )

    return run


def row_of(plugins, name):
    return next(row for row in plugins.rows if row.name == name)


PATIENT = PluginRow("patient", "stratagem-patient", "1.2.3", PluginState.LOADED, "", ("patient",))


@pytest.mark.usefixtures("site")
def test_an_installed_strategy_is_used_by_name():
    """A strategy of a distribution is made by its name and options, like one that ships with us."""
    with Engine(plugins=["patient"]) as engine:
        report = engine.run([int, str], strategy="patient(pause=0.001)")

    assert (report.values, report[0].worker) == ([0, ""], "patient")
    assert row_of(engine.plugins, "patient") == PATIENT


def test_an_installed_plugin_works_in_a_program_that_never_names_it(python, tmp_path):
    """Strategy by variable, listeners by being installed: the program itself knows of neither."""
    events = tmp_path / "events"

    ran = python(
        "import stratagem\n"
        "report = stratagem.map(int, ['7', 'x'], key=str)\n"
        "print(report[0].worker, *report.counts.elements())",
        STRATAGEM_STRATEGY="patient",
        STRATAGEM_PLUGINS="patient",
        PATIENT_EVENTS=str(events),
    )

    assert (ran.stdout, ran.returncode) == (
        "patient ok error\n",
        0,
    )
    assert events.read_text().splitlines() == [
        "before 7",
        "after 7 ok",
        "before x",
        "error x ValueError",
        "after x error",
    ]


def test_broken_plugins_cost_nobody_but_themselves(python):
    """Plugins that can't be loaded are a warning each, which names all there is to name."""
    ran = python("import stratagem; print(stratagem.run([int], strategy='sequential').values)")

    assert (ran.stdout, ran.returncode) == ("[0]\n", 0)
    assert [
        line.partition("RuntimeWarning: ")[2]
        for line in ran.stderr.splitlines()
        if "Warning" in line
    ] == [
        "plugin 'absent' of distribution stratagem-absent 0.5 (no_such_module_at_all) "
        "was not loaded: ModuleNotFoundError: No module named 'no_such_module_at_all'",
        "plugin 'broken' of distribution stratagem-broken 0.0.4 (stratagem_broken) was not loaded: "
        "SystemExit: this plugin is for another machine",
    ]


@pytest.mark.usefixtures("site")
def test_a_broken_plugin_is_a_row_with_its_reason():
    """What failed to load stands in the rows with why, and its strategy's error says so too."""
    with pytest.warns(RuntimeWarning, match="'broken' of distribution stratagem-broken 0.0.4"):
        engine = Engine(plugins=["broken"])

    why = "SystemExit: this plugin is for another machine"
    assert row_of(engine.plugins, "broken") == PluginRow(
        "broken", "stratagem-broken", "0.0.4", PluginState.FAILED, why
    )
    with pytest.raises(UnknownStrategyError) as caught:
        engine.strategy("fragile")
    assert str(caught.value).endswith(f"; failed to load: broken (stratagem-broken 0.0.4): {why}")


@pytest.mark.usefixtures("site")
def test_namesakes_matter_only_to_who_asks_for_their_name():
    """Two distributions with one name are an error for that name, which shows both ways out."""
    with Engine(plugins=["patient", "twin"]) as engine:
        values = engine.run([int], strategy="threads").values
        with pytest.raises(AmbiguousStrategyError) as caught:
            engine.run([int], strategy="patient")
        made = {choice: type(engine.strategy(choice)).__name__ for choice in caught.value.choices}

    assert values == [0]
    assert str(caught.value) == (
        "strategy 'patient' is given by 2 plugins; "
        "choose one: patient-twin:patient or stratagem-patient:patient"
    )
    assert made == {
        "patient-twin:patient": "TwinStrategy",
        "stratagem-patient:patient": "PatientStrategy",
    }


@pytest.mark.parametrize("written", ["Patient.Twin", "patient_twin", "PATIENT-TWIN"])
@pytest.mark.usefixtures("site")
def test_a_distribution_may_be_written_as_pip_allows(written):
    """Case and kind of separator in the name of a distribution do not matter."""
    engine = Engine(plugins=["twin", "patient"])

    assert type(engine.strategy(f"{written}:patient")).__name__ == "TwinStrategy"


def states(plugins):
    return {
        row.name: row.state.value
        for row in plugins.rows
        if row.name in {"patient", "unwanted", "builtin"}
    }


BUILT_IN_ALONE = {"builtin": "loaded", "patient": "skipped", "unwanted": "skipped"}
PATIENT_TOO = BUILT_IN_ALONE | {"patient": "loaded"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STRATAGEM_PLUGINS": "patient"}, PATIENT_TOO),
        ({"STRATAGEM_PLUGINS": " patient , lifecycle_log,"}, PATIENT_TOO),
        ({"STRATAGEM_PLUGINS": ""}, BUILT_IN_ALONE),
        ({"STRATAGEM_DISABLE_PLUGIN_AUTOLOAD": "1"}, BUILT_IN_ALONE),
        ({"STRATAGEM_PLUGINS": "patient", "STRATAGEM_DISABLE_PLUGIN_AUTOLOAD": "1"}, PATIENT_TOO),
    ],
)
@pytest.mark.usefixtures("site")
def test_the_environment_says_what_is_loaded(environ, expected):
    """Only the plugins named by the environment are loaded, beside what ships with stratagem."""
    assert states(Plugins(environ=environ)) == expected


@pytest.mark.parametrize("environ", [{}, {"STRATAGEM_DISABLE_PLUGIN_AUTOLOAD": "0"}])
@pytest.mark.usefixtures("site")
def test_without_a_word_everything_is_loaded(environ):
    """What is installed is loaded unless somebody says otherwise."""
    plugins = Plugins(block=["broken", "absent"], environ=environ)

    assert states(plugins) == {"builtin": "loaded", "patient": "loaded", "unwanted": "loaded"}


@pytest.mark.usefixtures("site")
def test_code_goes_before_the_environment(monkeypatch):
    """Names given to an engine are the only ones loaded, whatever the environment says."""
    monkeypatch.setenv("STRATAGEM_PLUGINS", "unwanted")

    assert states(Engine(plugins=["patient"]).plugins) == PATIENT_TOO
    assert states(Engine(plugins=[]).plugins) == BUILT_IN_ALONE


@pytest.mark.usefixtures("site")
def test_a_blocked_plugin_is_not_even_imported():
    """A plugin that is blocked by name stands in the rows as such, and its module stays away."""
    engine = Engine(plugins=["unwanted", "patient"], block=["unwanted"])

    assert row_of(engine.plugins, "unwanted") == PluginRow(
        "unwanted", "stratagem-unwanted", "7.0", PluginState.BLOCKED, "blocked by name"
    )
    assert ("stratagem_patient" in sys.modules, "stratagem_unwanted" in sys.modules) == (
        True,
        False,
    )


def test_what_ships_with_us_comes_by_entry_point_and_can_be_blocked():
    """The four strategies are a plugin like any other."""
    row = row_of(Plugins(allow=[]), "builtin")
    without = Engine(plugins=[], block=["builtin", "journal"])

    assert (row.distribution, row.state) == ("stratagem", "loaded")
    assert row.strategies == ("sequential", "threads", "processes", "asyncio", "executor")
    with pytest.raises(UnknownStrategyError) as caught:
        without.run([int], strategy="threads")
    assert caught.value.known == []


class Offering:
    """Offer a strategy in code."""

    @hookimpl
    def stratagem_strategies(self):
        return [StrategyInfo("mine", Mine)]


class Mine(ExecutionStrategy):
    """Be a strategy given in code."""

    def run_tasks(self, callables):
        return [call() for call in callables]


@pytest.mark.usefixtures("site")
def test_an_object_given_in_code_is_a_plugin_beside_the_named_ones():
    """Names and objects may be mixed; an object is a row without a distribution."""
    with Engine(plugins=["patient", Offering()]) as engine:
        report = engine.run([int], strategy="mine")

    assert report.values == [0]
    assert states(engine.plugins) == PATIENT_TOO
    assert engine.plugins.rows[-1] == PluginRow(
        "Offering", "", "", PluginState.LOADED, "", ("mine",)
    )
