"""What importing the library gives, and what it leaves unloaded."""

import importlib
import inspect
import json
import pkgutil

import stratagem
import stratagem_builtin

HEAVY = [
    "cloudpickle",
    "dask",
    "httpx",
    "numpy",
    "openai",
    "ray",
    "rich",
    "structlog",
    "tenacity",
    "typer",
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


def test_a_quiet_run_in_threads_imports_nothing_for_logs_and_progress(run_script):
    """A run that nobody asked to log or to show loads neither structlog, rich nor typer."""
    imported = top_levels(run_script(USED, "threads"))

    assert imported & {"structlog", "rich", "typer", "dask", "ray"} == set()


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
