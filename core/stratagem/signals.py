"""The first Ctrl-C or SIGTERM asks a run to stop, the second one not to wait."""

import _thread
import logging
import os
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dis import opmap
from functools import partial
from types import FrameType
from typing import Any, Protocol

from stratagem.task import Outcome, Task

__all__ = ["Interruptible", "interruptible", "struck"]

PUSH_SECONDS = 0.25
"""How long a run has to end by itself after the second signal, before the main thread is struck."""
PATIENT_SECONDS = 2.0
"""How long what waits for a strategy, which may be killing, is left to it."""
INSISTING_SECONDS = 1.0
"""After so long, a signal beyond the second one strikes the main thread wherever it is."""
_NOTED = 0x80
"""Tells the byte of a handler from the interpreter's for the same signal."""
_WAITS = frozenset({"stratagem.consuming", "stratagem.outbox"})
_RAISE = opmap["RAISE_VARARGS"]
_Handler = Callable[[int, FrameType | None], object] | int | None
_log = logging.getLogger("stratagem")


class Interruptible(Protocol):
    """Be a run that signals stop. Each method is called from a thread made for that."""

    @property
    def ending(self) -> bool:
        """Tell whether nothing of the caller's runs any more in the thread that reads the run."""

    def interrupt(self, signum: int) -> None:
        """Start no further task; what runs has its grace."""

    def hurry(self) -> None:
        """Wait for nothing that runs."""


@contextmanager
def interruptible(run: Interruptible) -> Iterator[None]:
    """Have the first SIGINT or SIGTERM inside stop ``run``, and the second one hurry it.

    Signals that somebody handles in a way of their own are left to them.
    Off the main thread, where no handler can be installed, nothing is done,
    and neither where the system has no descriptors left.
    """
    if threading.current_thread() is not threading.main_thread():
        _log.debug("no_signal_handlers: this run is not in the main thread, so no signal stops it")
        yield
        return
    previous = _ours_to_take()
    if not previous:
        yield
        return
    try:
        guard = _Guard(run, frozenset(previous))
    except OSError as error:
        _log.warning("no_signal_handlers: a signal ends this run as it does any code: %s", error)
        yield
        return
    threading.Thread(target=guard.serve, name="stratagem-signals", daemon=True).start()
    try:
        for number in previous:
            signal.signal(number, guard.note)
        guard.listen()
        yield
    finally:
        guard.end()
        for number, handler in previous.items():
            if signal.getsignal(number) == guard.note:
                signal.signal(number, handler)
        guard.close()


_guards: "weakref.WeakSet[_Guard]" = weakref.WeakSet()


class _Guard:
    """Hand the signals of one run to a thread that may wait for locks.

    A handler runs between any two bytecodes of the main thread, whatever lock that holds,
    so it only writes into a pipe. The interpreter writes there, too, and at once: a handler
    waits for the main thread, which may have begun a long sleep just after the signal came.
    A signal may lack either word, but has none twice.

    The handler raises where nothing else helps: when a run that was hurried does not end,
    since what the main thread is in is no code of ours.
    """

    def __init__(self, run: Interruptible, signums: frozenset[int]) -> None:
        self._run = run
        self._signums = signums
        self._heard, self._telling = os.pipe()
        with suppress(AttributeError):  # on Windows, where the interpreter does not ask for it
            os.set_blocking(self._telling, False)
        _guards.add(self)
        self._signals = 0
        self._hurried_at = 0.0
        self._turn = threading.Lock()
        self._striking = False
        self._struck = False
        self._over = threading.Event()

    def listen(self) -> None:
        """Have the interpreter tell of signals, unless it tells somebody else."""
        before = signal.set_wakeup_fd(self._telling, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)

    def let_go(self) -> None:
        """Have the interpreter tell of signals no more."""
        now = signal.set_wakeup_fd(-1)
        if now != self._telling:  # a loop that runs in the main thread took it over
            signal.set_wakeup_fd(now)

    def note(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        if self._striking:
            self._striking = False
            if not self._is_waiting(frame):
                self._struck = True
                raise KeyboardInterrupt
            return
        self._signals += 1
        hurried_at = self._hurried_at
        if self._signals > 2 and hurried_at and time.monotonic() - hurried_at > INSISTING_SECONDS:  # noqa: PLR2004
            raise KeyboardInterrupt
        if not self._over.is_set():
            with suppress(OSError):  # there is no end of signals
                os.write(self._telling, bytes([_NOTED | signum]))

    def _is_waiting(self, frame: FrameType | None) -> bool:
        """Tell whether the main thread is on its way to the end by itself."""
        if self._run.ending:
            return True
        module = None if frame is None else frame.f_globals.get("__name__")
        return module in _WAITS and time.monotonic() - self._hurried_at < PATIENT_SECONDS

    def forget(self) -> None:
        """Hold nothing of the run, in a child that was forked during it."""
        self.let_go()
        os.close(self._telling)
        os.close(self._heard)
        self._telling = self._heard = -1

    def end(self) -> None:
        """Have the thread strike nobody from now on."""
        with self._turn:
            self._over.set()
        self.let_go()

    def close(self) -> None:
        """Let the thread go, once no handler writes any more."""
        _guards.discard(self)
        if self._telling >= 0:  # else a forked child goes on with the code of the run
            os.close(self._telling)

    def serve(self) -> None:
        """Stop the run at the first signal, hurry it at the second, then strike, once."""
        try:
            for nth, signum in enumerate(self._arriving()):
                if nth == 0:
                    self._run.interrupt(signum)
                else:
                    self._hurried_at = time.monotonic()
                    self._run.hurry()
                    while not self._over.wait(PUSH_SECONDS):
                        self._strike(signum)
        finally:
            os.close(self._heard)

    def _arriving(self) -> Iterator[int]:
        """Give each signal when the first word of it comes, until the run ends."""
        told = Counter[bool]()
        while byte := os.read(self._heard, 1):
            signum, is_noted = byte[0] & ~_NOTED, byte[0] >= _NOTED
            if signum in self._signums:
                known = max(told.values(), default=0)
                told[is_noted] += 1
                if told[is_noted] > known:
                    yield signum

    def _strike(self, signum: int) -> None:
        with self._turn:  # a signal that comes when the handlers are put back would kill
            if not (self._over.is_set() or self._struck or self._run.ending):
                self._striking = True
                _strike_main(signum)


def _strike_main(signum: int) -> None:
    """Have the main thread handle a signal, also where it waits in a call of the system."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        _thread.interrupt_main(signal.Signals(signum))


def _ours_to_take() -> dict[int, _Handler]:
    """Give the signals whose handling is still the interpreter's own, with that handling."""
    return {
        number: handler
        for number, handler in _usual().items()
        if signal.getsignal(number) is handler
    }


def _usual() -> dict[int, _Handler]:
    return {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class _Forking(threading.local):
    """Hold what each thread that forks puts off until its child has let go of the run."""

    mask: Iterable[int] = ()


_forking = _Forking()


def _put_off_signals() -> None:
    """Have no signal reach the child before it tells nobody of it."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _usual())


def _take_signals_again() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _forget_in_child() -> None:
    """Have signals end a child that was forked during a run: its copy of the run can't be stopped.

    Else ``terminate`` of multiprocessing, say, would be without effect there.
    """
    for guard in list(_guards):
        guard.forget()
    for number, usual in _usual().items():
        if isinstance(getattr(signal.getsignal(number), "__self__", None), _Guard):
            signal.signal(number, usual)
    _take_signals_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_put_off_signals,
        after_in_parent=_take_signals_again,
        after_in_child=_forget_in_child,
    )


def struck(task: Task, outcome: Outcome, *, shares_memory: bool) -> bool:
    """Tell whether a task that ran in the main thread was ended by a signal, not by itself.

    A signal strikes between two instructions, of which the first does not raise.

    Args:
        task: the task.
        outcome: what became of it.
        shares_memory: whether it ran in this process for sure.
    """
    error = outcome.error
    if not isinstance(error, KeyboardInterrupt) or outcome.worker != threading.main_thread().name:
        return False
    traceback = error.__traceback__
    if traceback is None:  # it came from elsewhere, or out of what has no frames
        return shares_memory and not _has_frames(task.call)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code is _Guard.note.__code__ or code.co_code[traceback.tb_lasti] != _RAISE


def _has_frames(call: Any) -> bool:
    while isinstance(call, partial):
        call = call.func
    return hasattr(call, "__code__") or hasattr(type(call).__call__, "__code__")
