"""What is particular to threads: a deadline that comes when its task has just ended."""

import threading
from contextlib import closing

from stratagem import Status, Task
from stratagem.intake import SequenceIntake
from stratagem_builtin import ThreadPoolStrategy

PATIENCE = 20.0


class Deadlines:
    """Hold the clock where it has seen who runs and not yet ended who is overdue."""

    def __init__(self):
        self.seen, self.go_on = threading.Event(), threading.Event()

    def read(self):
        if threading.current_thread().name.endswith("clock"):
            self.seen.set()
            assert self.go_on.wait(PATIENCE)
        return 0.01


def test_a_deadline_ends_no_other_task_than_its_own():
    """A task that ends just before it is timed out leaves its thread's next task unharmed."""
    deadlines = Deadlines()
    second_runs, second_may_end = threading.Event(), threading.Event()

    class Timed(Task):
        timeout = property(lambda _: deadlines.read(), lambda *_: None)

    def first():
        return deadlines.seen.wait(PATIENCE)

    def second():
        second_runs.set()
        return second_may_end.wait(PATIENCE)

    def make(index, call):
        return (Timed if call is first else Task)(index, str(index), call.__name__, call)

    def let_the_clock_go_on():
        assert second_runs.wait(PATIENCE)
        deadlines.go_on.set()
        strategy.clock.call_at(0.0, second_may_end.set)  # after what the clock does now

    with (
        ThreadPoolStrategy(max_workers=1) as strategy,
        closing(SequenceIntake([first, second], make)) as source,
    ):
        threading.Thread(target=let_the_clock_go_on, daemon=True).start()
        outcomes = list(strategy.stream(source))

    assert [(o.name, o.status, o.value) for o in outcomes] == [
        ("first", Status.OK, True),
        ("second", Status.OK, True),
    ]
