"""From ``module:name`` or ``path.py:name`` to the function, in a way that workers can follow.

A worker process gets ``sys.path`` and imports the module by its name,
so a file is imported under a name that leads back to it: its stem, with its directory on the path.
On another machine nobody finds it, so what it defines travels there by value.
Where that name belongs to somebody else, the module gets a private name,
and its function travels as the path of the file, to be imported there anew.
"""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from stratagem.cli.messages import CommandError
from stratagem.files import loaded_from_files

__all__ = ["load_function"]

_PRIVATE = "stratagem_file_"


def load_function(given: str) -> Callable[[Any], Any]:
    """Import what ``given`` names: ``module:name`` or ``path.py:name``, where name may have dots.

    Raises:
        CommandError: there is no such file, module or name, it cannot be called,
            or its import raised.
    """
    where, _, name = given.rpartition(":")
    if not (where and name):
        raise CommandError(
            f"{given!r} names no function; write module:name, or path.py:name for a file"
        )
    if not (where.endswith(".py") or os.sep in where):
        return _function_in(_module_named(where), name)
    path = Path(where).resolve()
    if not path.is_file():
        raise CommandError(f"no such file: {where}")
    module = _module_at(path)
    function = _function_in(module, name)
    return _travelling(function, path, name) if module.__name__.startswith(_PRIVATE) else function


def _function_in(module: ModuleType, name: str) -> Callable[[Any], Any]:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(_no_such_name(found, part, module)) from None
    if not callable(found):
        raise CommandError(f"{name!r} is of type {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def _no_such_name(holder: Any, name: str, module: ModuleType) -> str:
    origin = getattr(module, "__file__", None) or "built in"
    what = "it" if holder is module else repr(getattr(holder, "__qualname__", holder))
    near = difflib.get_close_matches(name, dir(holder), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no {name!r} in module {module.__name__!r} ({origin}): {what} has no such name{hint}"


def _module_named(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return _imported(name, None)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"no module named {error.name!r}, neither installed nor in {here}; "
            "for a file write path.py:name"
        ) from None


def _module_at(path: Path) -> ModuleType:
    directory, name = _import_root(path)
    if not _is_taken(name, path):
        if str(directory) not in sys.path:
            sys.path.insert(0, str(directory))
        loaded_from_files.add(name)
        return _imported(name, path)
    if str(directory) not in sys.path:
        sys.path.append(str(directory))  # last, so that it hides nothing that is installed
    return _imported_privately(path)


def _import_root(path: Path) -> tuple[Path, str]:
    """Give the directory that must be on ``sys.path`` to import ``path``, and the dotted name."""
    directory, names = path.parent, [path.stem]
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    return directory, ".".join(names)


def _is_taken(name: str, path: Path) -> bool:
    """Tell whether importing ``name`` would or may one day give another file than ``path``."""
    first = name.partition(".")[0]
    if first in sys.stdlib_module_names or not all(p.isidentifier() for p in name.split(".")):
        return True
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin not in {str(path), str(_first_file(first, path))}


def _first_file(first: str, path: Path) -> Path:
    package = next((up for up in path.parents if up.name == first), path.parent)
    return package / "__init__.py"


def _imported_privately(path: Path) -> ModuleType:
    name = _PRIVATE + "".join(c if c.isalnum() else "_" for c in path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise CommandError(_import_failed(path.name, path, error)) from error
    return module


class _FromFile:
    """Call a function of a file, and travel as its path and name."""

    def __init__(self, function: Callable[[Any], Any], path: str, name: str) -> None:
        self.__qualname__ = name
        self.function = function
        self.path = path

    def __call__(self, item: Any) -> Any:
        return self.function(item)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_arrive, (self.path, self.__qualname__))


class _AsyncFromFile(_FromFile):
    """Be told from the like of it by strategies that look for coroutine functions."""

    async def __call__(self, item: Any) -> Any:
        return await self.function(item)


def _travelling(function: Callable[[Any], Any], path: Path, name: str) -> Callable[[Any], Any]:
    kind = _AsyncFromFile if inspect.iscoroutinefunction(function) else _FromFile
    return kind(function, str(path), name)


def _arrive(path: str, name: str) -> Callable[[Any], Any]:
    return _function_in(_imported_privately(Path(path)), name)


def _imported(name: str, path: Path | None) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if path is None and (name == missing or name.startswith(f"{missing}.")):
            raise
        raise CommandError(_import_failed(name, path, error)) from error
    except BaseException as error:
        raise CommandError(_import_failed(name, path, error)) from error


def _import_failed(name: str, path: Path | None, error: BaseException) -> str:
    what = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return f"importing {name} failed: {what}{_place(path, error)}"


def _place(path: Path | None, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib") and frame.filename != __file__
    ]
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    return "".join(f" ({frame.filename}:{frame.lineno})" for frame in (own or frames)[-1:])
