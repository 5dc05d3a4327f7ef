"""The errors: drawn as they are, exported, and whole on the far side of a pickle."""

import copy
import inspect
import pickle
import re
from collections import Counter

import pytest

import stratagem
from stratagem import Report, errors

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__
]

MESSAGES = {
    errors.StratagemError("all is lost"): "all is lost",
    errors.SpecError("no bracket", spec="a(", hint="close it"): (
        "no bracket in strategy spec 'a('; close it"
    ),
    errors.UnknownStrategyError("thread", ["asyncio", "threads"], failed=["dask (x 1.0): gone"]): (
        "unknown strategy 'thread'; known are: threads, asyncio; failed to load: dask (x 1.0): gone"
    ),
    errors.AmbiguousStrategyError("patient", ["b", "a"]): (
        "strategy 'patient' is given by 2 plugins; choose one: a:patient or b:patient"
    ),
    errors.PositionalOptionError("threads", "8", spec="threads(8)", option="max_workers"): (
        "'8' is given to 'threads' without the name of an option in strategy spec 'threads(8)'; "
        "only strategies are given by position; write threads(max_workers=8)"
    ),
    errors.StrategyOptionError("threads", "unknown option 'n'", options=["max_workers"]): (
        "strategy 'threads': unknown option 'n'; its options are: max_workers"
    ),
    errors.ConfigurationError("pyproject.toml: wrong"): "pyproject.toml: wrong",
    errors.CapabilityError("cannot stop a task"): "cannot stop a task",
    errors.ClusterError("cannot be reached"): "cannot be reached",
    errors.PluginError("does not fit"): "does not fit",
    errors.DuplicateKeyError("a", (0, 2)): (
        "inputs 0 and 2 have the same key 'a'; "
        "keys name tasks, so let `key` give each input its own"
    ),
    errors.NestingError("not here"): "not here",
    errors.BudgetError("not here"): "not here",
    errors.WorkerStartError("spawn", -9): (
        "worker processes (spawn) die before they are ready, the last one with exit code -9; what "
        "they said stands on stderr. A script that starts workers needs "
        '`if __name__ == "__main__":` around what it runs'
    ),
    errors.TransportError("encode_task", "no pickle", shown="<lambda>"): (
        "encode_task: no pickle; the value was <lambda>"
    ),
    errors.TaskTimeoutError("7", 1.5, abandoned=True): (
        "task '7' ran past its timeout of 1.5 s; it could not be stopped and was abandoned"
    ),
    errors.TaskCancelledError("7"): "task '7' was cancelled: the run was stopped",
    errors.TaskLostError("7", "its worker died", exitcode=-11): (
        "task '7' was lost: its worker died"
    ),
    errors.StopRun("the quota is used up"): "the quota is used up",
    errors.AbandonedThreadsError(65, 64): (
        "65 tasks could not be stopped at their timeouts and run on in threads of their own, more "
        "than max_abandoned=64; give what they call a timeout of its own, or run them under "
        "`processes`, which can kill"
    ),
    errors.TaskExitError("7", SystemExit(3)): "task '7' raised SystemExit: 3",
    errors.RemoteError(
        "openai.RateLimitError",
        "slow down",
        bases=["builtins.Exception"],
        remote_traceback="Traceback",
        attributes={"status_code": 429},
    ): "openai.RateLimitError: slow down",
    errors.RunInterrupted(2, Report([], Counter(), 0.5, "interrupted")): (
        "interrupted by signal 2 after 0 tasks"
    ),
    errors.LateBindingWarning("all see the last"): "all see the last",
}


def name_of(error):
    return type(error).__name__


def drawn_lines():
    """Give depth, name and what stands in brackets of each line of the tree."""
    for line in errors.__doc__.splitlines():
        if match := re.match(r"([ │├└─]{4,})([A-Z]\w+)(?: \((\w+)\))?", line):
            yield len(match[1]) // 4, match[2], match[3]


def test_every_error_hangs_where_it_is_drawn():
    """The tree in the docstring is that of the classes: no class missing, none elsewhere."""
    drawn, branch = {}, []
    for depth, name, _ in drawn_lines():
        branch[depth - 1 :] = [name]
        drawn[name] = branch[depth - 2] if depth > 1 else None

    assert drawn == {
        cls.__name__: next((base.__name__ for base in cls.__bases__ if base in CLASSES), None)
        for cls in CLASSES
    }


def test_every_error_shows_what_else_it_is():
    """The built-in class that an error derives from, for an ``except``, stands beside it."""
    drawn = {name: beside for _, name, beside in drawn_lines()}

    others = {cls: [base for base in cls.__bases__ if base not in CLASSES] for cls in CLASSES}
    others[errors.StratagemError] = []
    assert drawn == {
        cls.__name__: bases[0].__name__ if bases else None for cls, bases in others.items()
    }


def test_every_error_is_exported():
    """The module and the package name each class in their ``__all__``."""
    names = {cls.__name__ for cls in CLASSES}

    assert set(errors.__all__) == names
    assert [name for name in names if name not in stratagem.__all__] == []
    assert [cls for cls in CLASSES if getattr(stratagem, cls.__name__) is not cls] == []


def test_every_error_has_its_message_here():
    """No class is left out of the tests below."""
    assert sorted(map(name_of, MESSAGES)) == sorted(cls.__name__ for cls in CLASSES)


@pytest.mark.parametrize("error", MESSAGES, ids=name_of)
def test_a_message_says_what_is_wrong_and_what_to_do(error):
    """The message of an error is composed of its facts."""
    assert str(error) == MESSAGES[error]


WAYS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("error", MESSAGES, ids=name_of)
@pytest.mark.parametrize("way", WAYS)
def test_every_error_comes_through_pickle_and_copy(error, way):
    """Type, message, attributes and notes are the same after pickle and after copying."""
    error.__notes__ = ["task '7' (fn), error"]

    other = WAYS[way](error)

    assert type(other) is type(error)
    assert (str(other), facts_of(other)) == (str(error), facts_of(error))
    assert other.__notes__ == ["task '7' (fn), error"]


def facts_of(error):
    return {name: repr(value) for name, value in vars(error).items()}


def test_a_remote_error_has_the_attributes_of_the_original():
    """Plain attributes of the original are read as if they were its own; others are missing."""
    error = errors.RemoteError("m.E", "slow down", attributes={"status_code": 429})

    assert error.status_code == 429
    with pytest.raises(AttributeError, match="no_such"):
        _ = error.no_such


def test_the_package_exports_in_order_what_there_is():
    """``stratagem.__all__`` is sorted, names no name twice, and every name exists."""
    names = stratagem.__all__

    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(stratagem, name)] == []
