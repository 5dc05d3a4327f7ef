"""A bell that any thread rings and one selector hears."""

import socket

__all__ = ["Bell"]


class Bell:
    """Wake a selector from any thread; many rings before it looks are one."""

    def __init__(self) -> None:
        self._hear, self._ring = socket.socketpair()
        self._hear.setblocking(False)
        self._ring.setblocking(False)
        self._ringing = False

    def fileno(self) -> int:
        """Give the descriptor that a selector waits for."""
        return self._hear.fileno()

    def ring(self) -> None:
        """Wake the selector; after ``close`` nothing happens."""
        if self._ringing:
            return
        self._ringing = True
        try:
            self._ring.send(b"!")
        except OSError:  # full, so it rings already; or closed, so nobody listens
            return

    def answer(self) -> None:
        """Let it be rung again."""
        try:
            while self._hear.recv(4096):
                pass
        except BlockingIOError:
            pass
        self._ringing = False  # last, else a ring in between would be lost

    def close(self) -> None:
        """Give the descriptors back."""
        self._hear.close()
        self._ring.close()
