"""How calls are pickled for workers that have neither the caller's program nor its modules."""

import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import attrs
import cloudpickle

from stratagem.files import loaded_from_files
from stratagem.remote.shipments import Function
from stratagem.task import Task
from stratagem.transport import unpicklable

__all__ = ["Cargo", "Packer", "Wrapping"]

SMALL = 16_384
"""Bytes up to which a pickled function travels with each shipment, so that nobody ever lacks it."""

_registering = threading.Lock()


class Packer:
    """Pickle values; those that come from where the workers can't import them go by value.

    That is what ``__main__`` defines, and what the modules to be shipped define, those that
    cloudpickle was told of, and those that were loaded from a file by its path.

    Args:
        ship_modules: modules, or their names, that the workers lack.

    Raises:
        ImportError: there is no such module here.
        TypeError: one of them is neither a module nor the name of one.
    """

    def __init__(self, ship_modules: Sequence[ModuleType | str] = ()) -> None:
        if isinstance(ship_modules, str | ModuleType) or not isinstance(ship_modules, Sequence):
            raise TypeError(f'ship_modules is a list, such as ["helpers"], not {ship_modules!r}')
        self._modules = [_module(given) for given in ship_modules]
        self._names = {b"__main__", *(module.__name__.encode() for module in self._modules)}

    def __call__(self, value: object, stage: str) -> bytes:
        """Pickle ``value``.

        Args:
            value: what is to travel.
            stage: ``encode_task`` or ``encode_result``, for the error.

        Raises:
            TransportError: it cannot be pickled.
        """
        pickled = None
        try:
            pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            if not any(name in pickled for name in self._names | _travellers()):
                return pickled
        except Exception:  # noqa: BLE001, S110 - whatever pickle raises, cloudpickle has its turn
            pass
        try:
            return self._by_value(value)
        except Exception as error:
            # What a file defines goes by its name where it can't by value: workers may have it.
            if pickled is not None and not any(name in pickled for name in self._names):
                return pickled
            raise unpicklable(value, stage, error) from error

    def _by_value(self, value: object) -> bytes:
        with _registering:  # what cloudpickle is told of modules holds for the whole program
            registered = cloudpickle.list_registry_pickle_by_value()
            files = [sys.modules[name] for name in loaded_from_files if name in sys.modules]
            travellers = {*self._modules, *files}
            ours = [module for module in travellers if module.__name__ not in registered]
            for module in ours:
                cloudpickle.register_pickle_by_value(module)
            try:
                return cloudpickle.dumps(value)  # type: ignore[no-any-return]
            finally:
                for module in ours:
                    cloudpickle.unregister_pickle_by_value(module)


def _travellers() -> set[bytes]:
    """Name the modules that others have said are to travel."""
    told = cloudpickle.list_registry_pickle_by_value()
    return {name.encode() for name in (*told, *loaded_from_files)}


def _module(given: ModuleType | str) -> ModuleType:
    if isinstance(given, str):
        return import_module(given)
    if isinstance(given, ModuleType):
        return given
    raise TypeError(f"ship_modules lists modules or their names, not {given!r}")


@attrs.define(eq=False)
class Cargo:
    """Be a task that can travel.

    Attributes:
        task: the task.
        given: its argument, where the shipment brings the function; else the whole call. Pickled.
        is_argument: which of the two it is.
        with_function: whether the function must travel too, since a worker was found to lack it.
        apart: whether it is to run in a process of its own.
        deaths: how many workers have died before they began it.
    """

    task: Task
    given: bytes
    is_argument: bool
    with_function: bool = False
    apart: bool = False
    deaths: int = 0


class Wrapping:
    """Pickle the calls of one stream, and the function that they share only once.

    Args:
        pack: pickles a value.
        name: what both ends call the function of this stream.
    """

    def __init__(self, pack: Packer, name: str) -> None:
        self._pack = pack
        self._name = name
        self._called: Callable[..., Any] | None = None
        self._pickled = b""

    def wrap(self, task: Task) -> Cargo:
        """Pickle what a task calls.

        The function is that of the first call that is a ``partial`` of one argument.

        Raises:
            TransportError: it cannot be pickled.
        """
        call = task.call
        if type(call) is not partial or call.keywords or len(call.args) != 1:
            return Cargo(task, self._pack(call, "encode_task"), is_argument=False)
        if self._called is None:
            self._pickled = self._pack(call.func, "encode_task")
            self._called = call.func
        if self._called is not call.func:
            return Cargo(task, self._pack(call, "encode_task"), is_argument=False)
        return Cargo(task, self._pack(call.args[0], "encode_task"), is_argument=True)

    def function_for(self, cargo: Cargo) -> Function | None:
        """Give the function that travels with a task: only its name, where it is large and known.

        None where the task brings its whole call.
        """
        if not cargo.is_argument:
            return None
        travels = cargo.with_function or len(self._pickled) <= SMALL
        return Function(self._name, self._pickled if travels else None)
