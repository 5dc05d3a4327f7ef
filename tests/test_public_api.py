"""What importing the library gives, and what it leaves unloaded."""

import importlib
import inspect
import json
import pickle
import pkgutil

import cloudpickle
import pytest

import stratagem
import stratagem_builtin

HEAVY = [
    "argparse",
    "asyncio",
    "attr",
    "cloudpickle",
    "concurrent",
    "dask",
    "hashlib",
    "httpx",
    "importlib_metadata",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "numpy",
    "openai",
    "pathlib",
    "pickle",
    "pluggy",
    "psutil",
    "ray",
    "rich",
    "sqlite3",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "tenacity",
    "tomllib",
    "uuid",
]

IMPORTED = """
import json, sys
before = set(sys.modules)
import stratagem
print(json.dumps(sorted(set(sys.modules) - before)))
"""

USED = """
import json, sys
import stratagem
stratagem.map(abs, [-1, -2], strategy=sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""


def top_levels(printed):
    return {name.partition(".")[0] for name in json.loads(printed)}


def test_importing_stratagem_imports_no_plugin(run_script):
    """Strategies come in by entry point when they are asked for, ours too."""
    imported = top_levels(run_script(IMPORTED))

    assert {name for name in imported if name.startswith("stratagem")} == {"stratagem"}


def test_importing_stratagem_imports_nothing_heavy(run_script):
    """What a strategy, the log or the command line needs is imported by them."""
    imported = top_levels(run_script(IMPORTED))

    assert imported & set(HEAVY) == set()


def test_importing_stratagem_imports_none_of_its_own_modules(run_script):
    """A name of the public face brings its module with it when it is first asked for."""
    imported = [name for name in json.loads(run_script(IMPORTED)) if "stratagem" in name]

    assert imported == ["stratagem"]


def test_no_submodule_hides_a_function_of_its_name(run_script):
    """``stratagem.run`` is the function, whatever was imported before it was asked for."""
    printed = run_script("""
import importlib, stratagem
for name in ("invoke", "run", "strategy", "stream"):
    importlib.import_module(f"stratagem.{name}")
    print(type(getattr(stratagem, name)).__name__)
""")

    assert printed.split() == ["function"] * 4


def test_the_public_face_lists_its_names_before_any_was_asked_for(run_script):
    """``dir`` knows every public name, as completion in a console needs."""
    printed = run_script("""
import stratagem
print(set(stratagem.__all__) <= set(dir(stratagem)))
""")

    assert printed.strip() == "True"


def test_the_library_travels_as_its_name():
    """A function that is sent by value finds ``stratagem`` where it arrives."""
    for dumps in (cloudpickle.dumps, pickle.dumps):
        assert pickle.loads(dumps(stratagem)) is stratagem


def test_an_unknown_name_is_refused():
    """A name that is not there is said to be missing, and none is made up."""
    with pytest.raises(AttributeError, match="module 'stratagem' has no attribute 'mapp'"):
        _ = stratagem.mapp


def test_a_quiet_run_in_threads_imports_nothing_for_logs_and_progress(run_script):
    """A run that nobody asked to log or to show loads neither structlog, rich nor argparse."""
    imported = top_levels(run_script(USED, "threads"))

    assert imported & {"structlog", "rich", "argparse", "dask", "ray"} == set()


def test_a_run_in_threads_imports_no_other_strategy(run_script, monkeypatch):
    """Strategies are imported when they are asked for; so is what only they need."""
    monkeypatch.setenv("STRATAGEM_DISABLE_PLUGIN_AUTOLOAD", "1")
    modules = set(json.loads(run_script(USED, "threads")))

    others = {"coroutines", "dispatcher", "executors", "processes", "sequential"}
    assert modules & {f"stratagem_builtin.{name}" for name in others} == set()
    assert (
        modules & {"asyncio", "cloudpickle", "email.parser", "hashlib", "multiprocessing"} == set()
    )
    assert modules & {"psutil", "socket", "sqlite3", "subprocess"} == set()


def test_every_public_name_is_there_and_sorted():
    """``__all__`` is sorted and each of its names can be had."""
    assert stratagem.__all__ == sorted(stratagem.__all__)
    for name in stratagem.__all__:
        assert hasattr(stratagem, name), name
    assert stratagem_builtin.__all__ == sorted(stratagem_builtin.__all__)


def test_every_public_name_says_what_it_is():
    """Classes and functions of the public face have a docstring, and so have their methods."""
    silent = []
    for name in stratagem.__all__:
        thing = getattr(stratagem, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        if not inspect.getdoc(thing):
            silent.append(name)
        silent += [
            f"{name}.{method}"
            for method, function in vars(thing).items()
            if inspect.isfunction(function)
            and not method.startswith("_")
            and not inspect.getdoc(getattr(thing, method))
        ]

    assert silent == []


def test_every_module_exports_what_it_names():
    """Each name in the ``__all__`` of a module of either package exists there."""
    missing = []
    for package in (stratagem, stratagem_builtin):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            missing += [
                f"{found.name}.{name}"
                for name in getattr(module, "__all__", ())
                if not hasattr(module, name)
            ]

    assert missing == []
