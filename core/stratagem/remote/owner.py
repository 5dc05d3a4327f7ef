"""The owner's side of all streams of a strategy on somebody else's engine.

An engine is joined by a ``Backend``: it carries deliveries to workers and says how each ended.
All else is the same for every engine and stands here: streams, windows, batches, children,
budgets, log lines, and what becomes of the tasks of a worker that dies.
"""

import itertools
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal

from stratagem.budget import Ticket, request
from stratagem.consuming import outcomes_of
from stratagem.remote.delivery import Backend, Delivery
from stratagem.remote.forwarding import replay
from stratagem.remote.nests import TOO_LATE, Nest
from stratagem.remote.packing import Packer
from stratagem.remote.shipments import Answers, unpack
from stratagem.remote.stream import RemoteStream
from stratagem.remote.worker import Session, process_name, versions
from stratagem.scope import current_hold
from stratagem.slots import depth_below
from stratagem.source import TaskSource
from stratagem.task import Outcome, Task
from stratagem.threads import Crew

__all__ = ["OnLost", "RemoteOwner"]

_log = logging.getLogger("stratagem")

OnLost = Literal["isolate", "fail"]


class RemoteOwner:
    """Run streams on an engine, for one strategy object.

    Args:
        join: joins the engine, with the first task, and anew when it was lost.
        grace: seconds that running tasks get when a run is stopped.
        on_lost: what becomes of a task that may have been running when its worker died: it runs
            once more, alone in a process of its own (``"isolate"``), or is lost (``"fail"``).
        ship_modules: modules that the workers lack.
        max_result_bytes: a pickled result that is larger is an error.
        kills: whether the backend kills what runs of a stream when told to hurry it, whatever it
            is; else only what a worker runs in processes of its own is waited for then.

    Attributes:
        session: what every worker is told.
        on_lost: what was given.
        kills: what was given.
        pack: pickles what travels.
        numbers: the numbers of sendings.
        crew: threads for streams, and for what waits for children.
    """

    def __init__(
        self,
        join: "Callable[[RemoteOwner], Backend]",
        *,
        grace: float = 5.0,
        on_lost: OnLost = "fail",
        ship_modules: Sequence[ModuleType | str] = (),
        max_result_bytes: int = 67_108_864,
        kills: bool = False,
    ) -> None:
        self._join = join
        self._joining = threading.Lock()
        self._backend: Backend | None = None
        self.on_lost = on_lost
        self.kills = kills
        self.pack = Packer(ship_modules)
        self.numbers = itertools.count(1)
        self.crew = Crew("stratagem-remote")
        level = logging.getLogger().getEffectiveLevel()
        self.session = Session(
            secrets.token_hex(16),
            process_name(),
            level,
            max_result_bytes,
            grace,
        )
        self._streams: weakref.WeakSet[RemoteStream] = weakref.WeakSet()
        self._stream_numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._where: dict[int, tuple[RemoteStream, Delivery, Task]] = {}
        self._nests: dict[tuple[str, int], tuple[Nest, int]] = {}
        self._places: dict[tuple[str, int], Ticket] = {}
        self._greeted: set[tuple[str, ...]] = set()

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Run tasks; yield one outcome for each as it ends."""
        return self._outcomes(tasks, depth_below(current_hold()))

    def _outcomes(self, tasks: TaskSource, depth: int) -> Iterator[Outcome]:
        with self._joining:
            if self._backend is not None and self._backend.is_lost:
                backend, self._backend = self._backend, None
                backend.close()
            if self._backend is None:
                self._backend = self._join(self)
            backend = self._backend
        stream = RemoteStream(self, backend, tasks, next(self._stream_numbers), depth)
        yield from outcomes_of(stream, self.session.grace)

    def began(self, stream: RemoteStream) -> None:
        """Take in a stream whose thread is about to start."""
        self._streams.add(stream)

    def close(self) -> None:
        """Stop the streams that are open, and wait until they are over."""
        streams = list(self._streams)
        for stream in streams:
            stream.tasks.close()
            stream.stop(time.monotonic())
        for stream in streams:
            stream.end()
        with self._joining:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()
        self.crew.close()

    # What streams tell.

    def sent(self, stream: RemoteStream, deliveries: list[Delivery]) -> None:
        """Note where tasks are, before they leave."""
        with self._lock:
            for delivery in deliveries:
                for number, cargo in delivery.cargos.items():
                    self._where[number] = stream, delivery, cargo.task

    def ended(self, number: int) -> None:
        """Forget a sending: its task is answered for. What it waits for is stopped."""
        self._where.pop(number, None)
        if not self._nests:
            return
        with self._lock:
            orphans = [nest for nest, parent in self._nests.values() if parent == number]
        for nest in orphans:
            nest.stop()

    # What workers say.

    def receive(self, worker: str, message: tuple[Any, ...]) -> None:
        """Take a message of a ``RemoteWorker``, from any thread.

        Args:
            worker: the name by which the backend reaches it.
            message: what it sent.
        """
        getattr(self, f"_on_{message[0]}")(worker, *message[1:])

    def slots_changed(self) -> None:
        """Have streams look again at how much they may send; from any thread."""
        for stream in list(self._streams):
            stream.post("look")

    def worker_gone(self, worker: str) -> None:
        """Stop what tasks of a dead worker wait for, and give back what they had taken."""
        with self._lock:
            nests = [key for key in self._nests if key[0] == worker]
            orphans = [self._nests.pop(key)[0] for key in nests]
            places = [key for key in self._places if key[0] == worker]
            tickets = [self._places.pop(key) for key in places]
        for nest in orphans:
            nest.stop()
        for ticket in tickets:
            ticket.give_back()

    def _on_hello(self, worker: str, name: str, theirs: dict[str, str]) -> None:
        """Warn of a worker that is not like this process."""
        ours = versions()
        unlike = tuple(
            f"{what} {theirs.get(what, 'missing')} there, {ours[what]} here"
            for what in ours
            if theirs.get(what) != ours[what]
        )
        if unlike and unlike not in self._greeted:
            self._greeted.add(unlike)
            _log.warning(
                "worker_differs: worker %s (%s) has other versions: %s; "
                "what travels between them may not load",
                name,
                worker,
                "; ".join(unlike),
            )

    def _on_partial(self, _worker: str, travelled: bytes) -> None:
        answers: Answers = unpack(Answers, travelled)
        numbers = [answer[0] for answer in answers.answers] + list(answers.given_back)
        with self._lock:
            streams = {self._where[n][0] for n in numbers if n in self._where}
        for stream in streams:
            stream.post("partial", answers)

    def _on_log(self, _worker: str, fields: dict[str, Any]) -> None:
        replay(fields)

    def _on_nest(self, worker: str, number: int, sending: int, pickled: bytes) -> None:
        nest = Nest(number)
        with self._lock:
            found = self._where.get(sending)
            if found is not None:
                self._nests[worker, number] = nest, sending
        if found is None:  # it ended meanwhile, and left behind who asks
            self._tell(worker, ("nested", number, *TOO_LATE))
            return
        stream, delivery, task = found

        def run() -> None:
            stream.post("waits", delivery, 1)
            stream.backend.lend(delivery)
            nest.run(task, stream.depth, pickled, self.pack)
            stream.post("waits", delivery, -1)
            with self._lock:
                self._nests.pop((worker, number), None)
            stream.backend.resume(delivery, worker, ("nested", number, *(nest.answer or TOO_LATE)))

        self.crew.run(run)

    def _on_unnest(self, worker: str, number: int) -> None:
        with self._lock:
            found = self._nests.get((worker, number))
        if found is not None:
            found[0].stop()

    def _on_take(self, worker: str, number: int, name: str, limit: int) -> None:
        granted = threading.Event()

        def note() -> None:
            granted.set()
            self._tell_place(worker, number)

        ticket = request(name, limit, note)
        with self._lock:
            self._places[worker, number] = ticket
        if granted.is_set():
            self._tell_place(worker, number)

    def _tell_place(self, worker: str, number: int) -> None:
        with self._lock:
            ticket = self._places.get((worker, number))
        if ticket is not None:
            self._tell(worker, ("placed", number, ticket.problem))

    def _tell(self, worker: str, message: tuple[Any, ...]) -> None:
        backend = self._backend
        if backend is not None:
            backend.tell(worker, message)

    def _on_give(self, worker: str, number: int) -> None:
        with self._lock:
            ticket = self._places.pop((worker, number), None)
        if ticket is not None:
            ticket.give_back()
