"""Which strategy runs when the call names none: argument, variable, nearest file, default."""

import json
from collections.abc import Mapping
from functools import partial

import pytest

from stratagem import ConfigurationError, Engine, ExecutionStrategy, StrategyInfo, hookimpl
from stratagem.configuration import Configuration, read_configuration


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("STRATAGEM_STRATEGY", raising=False)


def test_without_any_configuration_it_is_threads(tmp_path):
    """Nobody said anything: the strategy is ``threads``."""
    assert read_configuration(tmp_path, {}) == Configuration("threads", "default")


@pytest.mark.parametrize("value", ["asyncio", " asyncio\n"])
def test_the_variable_goes_before_every_file(tmp_path, value):
    """STRATAGEM_STRATEGY decides, whatever files say."""
    write(tmp_path / "stratagem.toml", 'strategy = "sequential"')

    configured = read_configuration(tmp_path, {"STRATAGEM_STRATEGY": value})

    assert configured == Configuration("asyncio", "STRATAGEM_STRATEGY")


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_none(tmp_path, value):
    """A variable that is set to nothing leaves the choice to the files."""
    origin = write(tmp_path / "stratagem.toml", 'strategy = "sequential"')

    configured = read_configuration(tmp_path, {"STRATAGEM_STRATEGY": value})

    assert configured == Configuration("sequential", origin)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stratagem.toml", 'strategy = "asyncio"'),
        ("stratagem.toml", '[tool.stratagem]\nstrategy = "asyncio"'),
        ("pyproject.toml", '[project]\nname = "x"\n[tool.stratagem]\nstrategy = "asyncio"'),
    ],
)
def test_a_file_names_the_strategy(tmp_path, name, text):
    """``stratagem.toml`` says it plainly or under its table, ``pyproject.toml`` under its table."""
    origin = write(tmp_path / name, text)

    assert read_configuration(tmp_path, {}) == Configuration("asyncio", origin)


def test_the_nearest_file_upward_decides(tmp_path):
    """A file in a folder goes before those in the folders above it, of either name."""
    write(tmp_path / "stratagem.toml", 'strategy = "asyncio"')
    middle = write(tmp_path / "a" / "pyproject.toml", '[tool.stratagem]\nstrategy = "sequential"')
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)

    assert read_configuration(deep, {}) == Configuration("sequential", middle)


def test_of_two_files_in_one_folder_the_own_one_decides(tmp_path):
    """``stratagem.toml`` goes before the ``pyproject.toml`` beside it."""
    write(tmp_path / "pyproject.toml", '[tool.stratagem]\nstrategy = "asyncio"')
    origin = write(tmp_path / "stratagem.toml", 'strategy = "sequential"')

    assert read_configuration(tmp_path, {}) == Configuration("sequential", origin)


def test_a_project_file_that_says_nothing_of_it_is_passed_over(tmp_path):
    """A ``pyproject.toml`` without our table, even a broken one, does not end the search."""
    origin = write(tmp_path / "stratagem.toml", 'strategy = "asyncio"')
    write(tmp_path / "a" / "pyproject.toml", '[project]\nname = "x"')
    write(tmp_path / "a" / "b" / "pyproject.toml", "not toml at all")
    (tmp_path / "a" / "b" / "c" / "pyproject.toml").mkdir(parents=True)

    configured = read_configuration(tmp_path / "a" / "b" / "c", {})

    assert configured == Configuration("asyncio", origin)


def test_a_table_in_a_file_is_a_spec(tmp_path):
    """A strategy may be written as a table, with tables within it."""
    write(
        tmp_path / "stratagem.toml",
        "[strategy]\nuse = 'retry'\nattempts = 4\ninner = {use = 'threads', max_workers = 3}",
    )

    assert read_configuration(tmp_path, {}).strategy == {
        "use": "retry",
        "attempts": 4,
        "inner": {"use": "threads", "max_workers": 3},
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "stratagem.toml",
            'strategy = "a"\nx = [1,\ny = 2',
            "{path}: Invalid value (at line 3, column 1)",
        ),
        (
            "pyproject.toml",
            "[tool.stratagem]\nstrategy = threads",
            "{path}: Invalid value (at line 2, column 12)",
        ),
        (
            "stratagem.toml",
            'strategie = "threads"\nworkers = 3',
            "{path}: unknown setting 'strategie', 'workers' of stratagem; "
            "the settings are: strategy",
        ),
        (
            "stratagem.toml",
            "strategy = 8",
            '{path}: strategy must be text or a table, such as strategy = "threads"',
        ),
        (
            "pyproject.toml",
            "[tool]\nstratagem = 'threads'",
            "{path}: tool.stratagem must be a table",
        ),
        ("stratagem.toml", "tool = 3", "{path}: tool must be a table"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong_in_it(tmp_path, name, text, message):
    """A file that can't be used is an error that names it and its line or setting."""
    path = write(tmp_path / name, text)

    with pytest.raises(ConfigurationError) as caught:
        read_configuration(tmp_path, {})

    assert str(caught.value) == message.format(path=path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    """Bytes that are no UTF-8 are an error that names the file."""
    path = tmp_path / "stratagem.toml"
    path.write_bytes(b"strategy = '\xff'")

    with pytest.raises(ConfigurationError) as caught:
        read_configuration(tmp_path, {})

    assert str(caught.value).startswith(f"{path}: cannot be read: ")


def test_the_engine_follows_the_same_order(tmp_path, monkeypatch):
    """Argument, engine, variable, file, default: each goes before those behind it."""
    monkeypatch.chdir(tmp_path)
    with Engine() as engine, Engine("threads(max_workers=2)") as set_engine:
        chosen = [label_of(engine)]
        write(tmp_path / "stratagem.toml", 'strategy = "sequential"')
        chosen.append(label_of(engine))
        monkeypatch.setenv("STRATAGEM_STRATEGY", "asyncio")
        chosen.append(label_of(engine))
        chosen.append(label_of(set_engine))
        chosen.append(label_of(set_engine, strategy="threads(max_workers=3)"))

    assert chosen == [
        "threads",
        "sequential",
        "asyncio",
        "threads(max_workers=2)",
        "threads(max_workers=3)",
    ]


def label_of(engine, **options):
    with engine.stream([int], **options) as stream:
        return stream.run.strategy


def test_the_engine_runs_a_table_of_a_file(tmp_path, monkeypatch):
    """A run whose strategy is a table in a file goes by its options."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "stratagem.toml", 'strategy = {use = "threads", max_workers = 3}')

    with Engine() as engine:
        made = engine.strategy()
        report = engine.run([int, str])
        made.close()

    assert (made.max_workers, report.values) == (3, [0, ""])


POOL = "executor('concurrent.futures:ThreadPoolExecutor', max_workers=2)"
IMPORTING = {
    POOL: "strategy 'executor'",
    'stratagem:executor(place="mine:Pool")': "strategy 'executor'",
    "wrapper(wrapper(executor('mine:Pool')))": "strategy 'executor'",
    "wrapper(inner=executor('mine:Pool'))": "strategy 'executor'",
    "wrapper(inner=\"executor('mine:Pool')\")": "strategy 'executor'",
    "several(by_name={'a': \"executor('mine:Pool')\"})": "strategy 'executor'",
    "processes(initializer='mine:load')": "option 'initializer' of strategy 'processes'",
    "wrapper(processes(max_workers=1, initializer='mine:load'))": "option 'initializer'",
}


class Wrapping:
    """Offer what wraps one strategy, several, and one of the plugin's own choice."""

    @hookimpl
    def stratagem_strategies(self):
        def wrapper(inner: ExecutionStrategy | str = POOL):
            return inner

        def several(by_name: Mapping[str, ExecutionStrategy]):
            return by_name["a"]

        return [StrategyInfo("wrapper", wrapper), StrategyInfo("several", several)]


@pytest.fixture
def importing_engine():
    with Engine(plugins=[Wrapping()]) as engine:
        yield engine


@pytest.mark.parametrize(("spec", "what"), IMPORTING.items())
def test_a_file_may_not_name_code_to_import(tmp_path, monkeypatch, importing_engine, spec, what):
    """A project that was downloaded gets no code of its own run by where one stands."""
    monkeypatch.chdir(tmp_path)
    imported = []
    monkeypatch.setattr("pkgutil.resolve_name", imported.append)
    origin = write(tmp_path / "pyproject.toml", f"[tool.stratagem]\nstrategy = {json.dumps(spec)}")

    for refused in (importing_engine.strategy, partial(importing_engine.run, [int])):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert str(caught.value).startswith(f"{origin}: {what}")
        assert "imports code by its name" in str(caught.value)
        assert f"give {spec} as the argument" in str(caught.value)
    assert imported == []


@pytest.mark.parametrize(
    "table",
    [
        '{use = "executor", place = "mine:Pool"}',
        '{use = "wrapper", inner = {use = "executor", place = "mine:Pool"}}',
        '{use = "several", by_name = {a = {use = "executor", place = "mine:Pool"}}}',
        '{use = "processes", initializer = "mine:load"}',
    ],
)
def test_a_table_in_a_file_may_not_either(tmp_path, monkeypatch, importing_engine, table):
    """However deep inside the tables it stands."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "stratagem.toml", f"strategy = {table}")

    with pytest.raises(ConfigurationError, match="imports code by its name"):
        importing_engine.strategy()


def test_what_was_made_for_an_argument_is_not_for_a_file(tmp_path, monkeypatch, importing_engine):
    """That the same spec was asked for before, rightly, opens no way around the refusal."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "stratagem.toml", f"strategy = {json.dumps(POOL)}")

    assert importing_engine.run([int], strategy=POOL).values == [0]
    with pytest.raises(ConfigurationError):
        importing_engine.run([int])


def test_who_runs_the_program_may_name_code_to_import(tmp_path, monkeypatch, importing_engine):
    """The argument, the variable, the engine, and what a plugin chose by itself are trusted."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "stratagem.toml", 'strategy = "wrapper"')

    reports = [importing_engine.run([int]), importing_engine.run([int], strategy=POOL)]
    with Engine(POOL) as engine:
        reports.append(engine.run([int]))
    monkeypatch.setenv("STRATAGEM_STRATEGY", POOL)
    reports.append(importing_engine.run([int]))

    assert [report.values for report in reports] == [[0]] * 4
