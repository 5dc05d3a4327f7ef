"""The first Ctrl-C or SIGTERM asks a run to stop; the second one is what it always was."""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]

_Handler = Callable[[int, FrameType | None], object] | int | None


class Interruption:
    """Hold the signal that asked a run to stop.

    Attributes:
        signum: its number; None while there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None


@contextmanager
def interruptible(stop: Callable[[int], None]) -> Iterator[Interruption]:
    """Have ``stop`` called with the number of the first SIGINT or SIGTERM inside, in a thread.

    A handler runs between any two bytecodes of the main thread, whatever lock that holds,
    so ours only notes the signal and puts it into a queue made for that.
    The second signal gets the handler that stood before.
    Signals that somebody handles in a way of their own are left to them,
    and off the main thread, where no handler can be installed, nothing is done.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = _ours_to_take()
    if not previous:
        yield interruption
        return
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(
        target=_stop_when_asked, args=(asked, stop), name="stratagem-signals", daemon=True
    ).start()

    def note(signum: int, _frame: FrameType | None) -> None:
        interruption.signum = signum
        for number, handler in previous.items():
            signal.signal(number, handler)
        asked.put(signum)

    try:
        for number in previous:
            signal.signal(number, note)
        yield interruption
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is note:
                signal.signal(number, handler)
        asked.put(0)


def _stop_when_asked(asked: "queue.SimpleQueue[int]", stop: Callable[[int], None]) -> None:
    while signum := asked.get():
        stop(signum)


def _ours_to_take() -> dict[int, _Handler]:
    """Give the signals whose handling is still the interpreter's own, with that handling."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    return {
        number: handler for number, handler in usual.items() if signal.getsignal(number) is handler
    }
