"""One stream on somebody else's engine: tasks go out in deliveries, outcomes come back."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs

from stratagem.errors import TaskLostError, TransportError
from stratagem.invoke import failed, is_async
from stratagem.outbox import Outbox
from stratagem.remote.delivery import Backend, Death, Delivery
from stratagem.remote.packing import Cargo, Wrapping
from stratagem.remote.shipments import MISSING, Answers, Shipment, outcome_of, pack, unpack
from stratagem.scope import run_scope
from stratagem.source import TaskSource
from stratagem.strategy import cancelled
from stratagem.task import Outcome, Status, Task
from stratagem.transport import without_frames

if TYPE_CHECKING:
    from stratagem.remote.owner import RemoteOwner

__all__ = ["RemoteStream"]

_log = logging.getLogger("stratagem")

LEAST_WINDOW = 768
BATCH_SECONDS = 0.5
BRIEF_SECONDS = 0.2
LARGEST_BATCH = 128
LARGEST_SHIPMENT = 4_194_304
"""Bytes of arguments beyond which tasks travel apart."""

KILL_SECONDS = 5.0
"""Seconds in which workers kill what they can, and say so."""

MOST_DEATHS = 4
"""How many workers may die under a task that was not seen to begin, before it counts as lost."""


class RemoteStream:
    """Take tasks, send them in deliveries, and put outcomes into the box.

    One thread does all of it; what backends and the consumer have to say reaches it as letters.

    Attributes:
        tasks: where its tasks come from.
        outbox: where outcomes go.
        failure: what broke the stream itself.
        backend: the engine.
        number: what workers call it.
        depth: how many runs it is nested in.
    """

    def __init__(
        self, owner: "RemoteOwner", backend: Backend, tasks: TaskSource, number: int, depth: int
    ) -> None:
        self.tasks = tasks
        self.backend = backend
        self.number = number
        self.depth = depth
        self.failure: BaseException | None = None
        self.outbox = Outbox(LEAST_WINDOW)
        self._owner = owner
        self._wrapping = Wrapping(owner.pack, str(number))
        self._letters: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._noted = False
        self._deliveries: dict[Delivery, None] = {}
        self._out: dict[int, tuple[Cargo, Delivery]] = {}
        self._again: deque[Cargo] = deque()
        self._mean: float | None = None
        self._input_over = False
        self._ready = True
        self._retry_at = float("inf")
        self._awaits_room = False
        self._shared = False
        self._stopping = False
        self._give_up_at = float("inf")
        self._hurried = False
        self._over = threading.Event()

    # What the consumer calls.

    def begin(self) -> None:
        """Take the first tasks."""
        self.tasks.subscribe(self._stir)
        self._owner.began(self)
        self._owner.crew.run(self._serve)

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return self._over.is_set()

    def stop(self, give_up_at: float) -> None:
        """Take back what has not begun, cancel what can be, kill or leave the rest at that time."""
        self.post("stop", give_up_at)

    def give_up(self) -> bool:
        """Leave it to the thread, which has the same clock."""
        return False

    def end(self) -> None:
        """Wait until the thread has ended: it puts nothing more."""
        self._over.wait()

    # What comes from other threads.

    def post(self, kind: str, *parts: object) -> None:
        """Have the thread do something, from any thread."""
        self._letters.put((kind, *parts))

    def _stir(self) -> None:
        self._ready = True
        if not self._noted:
            self._noted = True
            self.post("look")

    # What the thread does.

    def _serve(self) -> None:
        try:
            while True:
                self._deal()
                if self._is_over():
                    break
                self.outbox.rouse()
                self._read_letters()
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            self.failure = error
        if self._deliveries:
            self.backend.withdraw(list(self._deliveries))
        for number in list(self._out):
            self._taken_off(number)
        self.backend.tell_all(("over", self.number))
        self._over.set()
        self.outbox.ring()

    def _is_over(self) -> bool:
        if self.failure is not None:
            return True
        if self._out or self._again:
            return False
        return self._input_over or self.tasks.closed

    def _read_letters(self) -> None:
        moment = min(self._retry_at, self._give_up_at)
        patience = None if moment == float("inf") else max(0.0, moment - time.monotonic())
        try:
            letter = self._letters.get(timeout=patience)
            while True:
                getattr(self, f"_on_{letter[0]}")(*letter[1:])
                letter = self._letters.get_nowait()
        except Empty:
            pass
        if self._give_up_at <= time.monotonic():
            self._give_up()

    def _on_look(self) -> None:
        self._noted = False

    def _on_room(self) -> None:
        self._awaits_room = False

    def _on_waits(self, delivery: Delivery, more: int) -> None:
        delivery.waiting += more

    def _deal(self) -> None:
        """Send what there is room for."""
        if self.tasks.closed:
            self._settle(
                cancelled(cargo.task, "the run was stopped before it began")
                for cargo in self._emptied(self._again)
            )
            return
        most = 2 * self.backend.slots() + 2
        room = most - sum(not delivery.waiting for delivery in self._deliveries)
        made: list[Delivery] = []
        while len(made) < room and (cargos := self._gather(self._batch_size())):
            made += map(self._delivery, self._alike(cargos))
        if made:
            self._shared = False
            self._owner.sent(self, made)
            self.backend.submit(made)
        self._share()

    def _batch_size(self) -> int:
        """Tell how many tasks may share a delivery: fewer where slots would be left without."""
        if self._mean is None or self._mean >= BATCH_SECONDS:
            return 1
        fair = LARGEST_BATCH
        slots = max(1, self.backend.slots())
        if not self._more_may_come:
            fair = -(-len(self._again) // slots)
        return max(1, min(fair, LARGEST_BATCH, int(BATCH_SECONDS / max(self._mean, 1e-6))))

    @property
    def _more_may_come(self) -> bool:
        return self._ready and not self._input_over

    def _share(self) -> None:
        """Have workers give back what has not begun, where others have nothing to do."""
        if self._shared or self._more_may_come or self._again or self.tasks.closed:
            return
        active = sum(not delivery.waiting for delivery in self._deliveries)
        if active < self.backend.slots() and any(len(d.cargos) > 1 for d in self._deliveries):
            self._shared = True
            self.backend.tell_all(("share", self.number))

    def _gather(self, most: int) -> list[Cargo]:
        """Take tasks that can travel, as many as there are, until they fill a delivery."""
        cargos: list[Cargo] = []
        while self._again and len(cargos) < most:
            if self._again[0].apart and cargos:
                return cargos
            cargos.append(self._again.popleft())
            if cargos[-1].apart:
                return cargos
        while taken := self._taken(min(most, self._window_left()) - len(cargos)):
            cargos += filter(None, map(self._wrapped, taken))
        return cargos

    def _wrapped(self, task: Task) -> Cargo | None:
        """Make a task travel; settle one that can't."""
        try:
            return self._wrapping.wrap(task)
        except TransportError as error:
            self._settle([failed(task, without_frames(error), Status.ERROR)])
            return None

    def _window_left(self) -> int:
        window = max(LEAST_WINDOW, 3 * self.backend.slots())
        left = window - len(self._out) - len(self.outbox)
        if left <= 0 and len(self.outbox) > self.outbox.half and not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(partial(self.post, "room"))
        return left

    def _taken(self, most: int) -> list[Task]:
        taken: list[Task] = []
        if self._input_over or not (self._ready or self._retry_at <= time.monotonic()):
            return taken
        self._ready, self._retry_at = False, float("inf")  # first: a wake from now on must count
        while len(taken) < most:
            found = self.tasks.poll()
            if isinstance(found, Task):
                taken.append(found)
                continue
            if found is None:
                self._input_over = True
            else:
                self._retry_at = time.monotonic() + found.seconds
            return taken
        self._ready = True
        return taken

    def _alike(self, cargos: list[Cargo]) -> Iterable[list[Cargo]]:
        """Part tasks into those that can share a shipment, in their order."""
        group: list[Cargo] = []
        alike: object = None
        size = 0
        for cargo in cargos:
            common = _common(cargo)
            size += len(cargo.given)
            if group and (common != alike or size > LARGEST_SHIPMENT):
                yield group
                group, size = [], len(cargo.given)
            alike = common
            group.append(cargo)
        if group:
            yield group

    def _delivery(self, cargos: list[Cargo]) -> Delivery:
        first = cargos[0]
        numbered = {next(self._owner.numbers): cargo for cargo in cargos}
        shipment = Shipment(
            self.number,
            _run_id(first.task),
            first.task.name,
            first.task.attempt,
            first.task.timeout,
            first.task.tags,
            first.task.parent,
            self._wrapping.function_for(first),
            first.apart,
            tuple(numbered),
            tuple(cargo.task.index for cargo in cargos),
            tuple(cargo.task.key for cargo in cargos),
            tuple(cargo.given for cargo in cargos),
        )
        is_brief = self._mean is not None and self._mean < BRIEF_SECONDS
        delivery = Delivery(self, pack(shipment), numbered, self.depth, is_brief)
        self._deliveries[delivery] = None
        self._out.update((number, (cargo, delivery)) for number, cargo in numbered.items())
        return delivery

    # How deliveries end.

    def _on_partial(self, answers: Answers) -> None:
        """Take what a worker tells of a shipment that goes on."""
        self._take_answers(answers)

    def _on_answered(self, delivery: Delivery, travelled: bytes) -> None:
        del self._deliveries[delivery]
        self._take_answers(unpack(Answers, travelled))
        self._take_back(list(delivery.cargos))

    def _on_withdrawn(self, delivery: Delivery) -> None:
        del self._deliveries[delivery]
        self._take_back(list(delivery.cargos))

    def _on_failed(self, delivery: Delivery, error: BaseException) -> None:
        del self._deliveries[delivery]
        self.failure = error

    def _on_died(self, delivery: Delivery, death: Death) -> None:
        del self._deliveries[delivery]
        told = death.unfinished
        if told is None:
            begun = set(delivery.cargos)
        else:
            self._take_answers(Answers(tuple(a for a in told.answers if a[0] in delivery.cargos)))
            begun = set(delivery.cargos) & told.running
        for number in list(delivery.cargos):
            cargo = self._taken_off(number)
            if cargo is None:
                continue
            if number in begun and self._hurried:  # that is why it died
                self._settle([cancelled(cargo.task, "the run was stopped, and it was killed")])
            elif number in begun and self._owner.on_lost == "fail":
                self._lose(cargo, death)
            elif cargo.deaths >= MOST_DEATHS:
                self._lose(cargo, death, "and so did others before that had it")
            else:
                again = attrs.evolve(cargo, deaths=cargo.deaths + 1)
                self._again.append(self._isolated(again, death) if number in begun else again)

    def _isolated(self, cargo: Cargo, death: Death) -> Cargo:
        """Have a task run apart that was running, or may have been, when its worker died.

        If it did that, it will end as lost there, and harm nobody; else its worker died of another.
        """
        task = attrs.evolve(cargo.task, attempt=cargo.task.attempt + 1)
        _log.warning(
            "task_isolated: task %r runs again, in a process of its own: %s", task.key, death.why
        )
        return attrs.evolve(cargo, task=task, apart=True)

    def _lose(self, cargo: Cargo, death: Death, further: str = "") -> None:
        why = f"{death.why}, {further}" if further else death.why
        lost = TaskLostError(cargo.task.key, why, exitcode=death.exitcode)
        self._settle([failed(cargo.task, lost, Status.LOST)])

    def _take_answers(self, answers: Answers) -> None:
        ended: list[Outcome] = []
        for answer in answers.answers:
            cargo = self._taken_off(answer[0])
            if cargo is None:
                continue
            if answer[1] == MISSING:
                self._again.append(attrs.evolve(cargo, with_function=True))
            else:
                ended.append(outcome_of(cargo.task, answer))
        if ended:
            self._note_seconds(len(ended), sum(outcome.seconds for outcome in ended))
            self._settle(ended)
        self._take_back(answers.given_back)

    def _take_back(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            cargo = self._taken_off(number)
            if cargo is not None:
                self._again.append(cargo)

    def _taken_off(self, number: int) -> Cargo | None:
        found = self._out.pop(number, None)
        if found is None:
            return None
        cargo, delivery = found
        del delivery.cargos[number]
        self._owner.ended(number)
        return cargo

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        self.outbox.unread.extend(outcomes)

    def _note_seconds(self, tasks: int, seconds: float) -> None:
        old = 0.0 if self._mean is None else 0.8**tasks
        self._mean = old * (self._mean or 0.0) + (1 - old) * seconds / tasks

    @staticmethod
    def _emptied(cargos: deque[Cargo]) -> list[Cargo]:
        found = list(cargos)
        cargos.clear()
        return found

    # How it stops.

    def _on_stop(self, give_up_at: float) -> None:
        self._give_up_at = give_up_at
        if not self._stopping:
            self._stopping = True
            self.backend.withdraw(list(self._deliveries))
            self.backend.tell_all(("stop", self.number))

    def _give_up(self) -> None:
        """Have killed what can be, first; answer for the rest, which is left to itself."""
        if not self._hurried:
            self._hurried = True
            self.backend.tell_all(("hurry", self.number))
            stubborn = [n for n, (cargo, _) in self._out.items() if not self._can_kill(cargo)]
            self._give_up_at = time.monotonic() + KILL_SECONDS
        else:
            stubborn = list(self._out)
            self._give_up_at = float("inf")
        for number in stubborn:
            cargo = self._taken_off(number)
            if cargo is not None:
                why = "the run was stopped, and it did not end in time"
                self._settle([cancelled(cargo.task, why)])

    def _can_kill(self, cargo: Cargo) -> bool:
        if self._owner.kills:
            return True
        return cargo.apart or (cargo.task.timeout is not None and not is_async(cargo.task.call))


def _common(cargo: Cargo) -> tuple[object, ...]:
    """Give what the tasks of a shipment must have in common."""
    task = cargo.task
    return (
        task.context,
        task.name,
        task.attempt,
        task.timeout,
        task.tags,
        task.parent,
        cargo.is_argument,
        cargo.with_function,
    )


def _run_id(task: Task) -> str:
    scope = None if task.context is None else task.context.get(run_scope)
    return "" if scope is None else scope.run_id
