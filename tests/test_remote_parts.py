"""The parts that strategies on other engines are built of, each by itself."""

import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from stratagem import Task, TransportError
from stratagem.remote.forwarding import LogForwarding, replay
from stratagem.remote.lane import Lane
from stratagem.remote.logbook import PAGES, Logbook, logbook_path, read_logbook
from stratagem.remote.packing import Packer, Wrapping
from stratagem.remote.seat import Seat
from stratagem.testing.waiting import PATIENCE, until
from stratagem_builtin import AsyncStrategy, ThreadPoolStrategy

ANSWER = (7, "ok", 1.5, 0.25, "host/pid-1", b"body")


@pytest.fixture
def book(tmp_path):
    return tmp_path / "book"


DYING = """
import os, sys
from pathlib import Path
from stratagem.remote.logbook import Logbook

book = Logbook(Path(sys.argv[1]))
with book.page() as told, book.page() as page:
    told.begin(1)
    told.end((1, "ok", 0.0, 0.0, "w", b"one"))
    page.begin(2)
    page.end((2, "ok", 0.0, 0.0, "w", b"two"))
    page.begin(3)
    os._exit(9)
"""


def test_a_logbook_tells_what_a_dead_process_had_begun_and_answered(book):
    """However the process ended: here at once, in the midst of a task."""
    process = subprocess.run([sys.executable, "-c", DYING, str(book)], check=False)
    unfinished = read_logbook(book)

    assert process.returncode == 9
    assert unfinished.running == {3}
    assert sorted(answer[0] for answer in unfinished.answers) == [1, 2]
    assert {answer[5] for answer in unfinished.answers} == {b"one", b"two"}
    assert read_logbook(book) is None


def test_answers_stand_in_a_logbook_until_their_page_is_needed(book):
    """A worker may die between the end of a shipment and the moment it has told of that."""
    logbook = Logbook(book)
    with logbook.page() as page:
        page.begin(7)
        page.end(ANSWER)
    for _ in range(PAGES - 2):
        with logbook.page() as page:
            pass
    still = len(pickle.dumps(ANSWER)) > 0 and Path(book).read_bytes().count(b"host/pid-1")
    with logbook.page() as page:
        page.begin(8)

    assert still == 1
    assert read_logbook(book).running == {8}
    logbook.close()


def test_a_logbook_that_cannot_tell_of_all_tells_nothing(book):
    """With more shipments at once than pages, nobody knows what the others had begun."""
    logbook = Logbook(book)
    with ExitStack() as stack:
        pages = [stack.enter_context(logbook.page()) for _ in range(PAGES)]
        pages[0].begin(1)
        pages[-1].begin(2)
        assert pages[-1].end(ANSWER)
        copy = book.with_name("copy")
        copy.write_bytes(book.read_bytes())
        assert read_logbook(copy) is None
    copy.write_bytes(book.read_bytes())

    assert read_logbook(copy).running == {1}
    logbook.close()
    assert not book.exists()


def test_an_answer_that_has_no_room_on_a_page_still_passes_for_running(book):
    """It is not told by the logbook, so what became of it is not known."""
    logbook = Logbook(book)
    with logbook.page() as page:
        page.begin(7)
        assert not page.end((*ANSWER[:5], b"x" * 100_000))
        assert read_logbook(book).running == {7}
    logbook.close()


def test_logbooks_are_for_their_owner_alone(tmp_path, monkeypatch):
    """Directory and file can be read by nobody else, and a directory that others opened is refused."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    before = os.umask(0)
    try:
        path = logbook_path("a session", "tls://here:1")
        logbook = Logbook(path)
    finally:
        os.umask(before)

    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert path == logbook_path("a session", "tls://here:1")
    assert path != logbook_path("another session", "tls://here:1")
    logbook.close()
    path.parent.chmod(0o755)
    with pytest.raises(PermissionError, match="is open to others; remove it"):
        logbook_path("a session", "tls://here:1")


def test_a_module_that_is_to_travel_does_so_by_value_and_others_by_name(tmp_path, monkeypatch):
    """Who has no such module can load it; what cloudpickle was told of modules is as before."""
    source = "class Thing:\n    pass\n\ndef make():\n    return Thing()\n"
    (tmp_path / "travelling.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import travelling  # noqa: PLC0415 - it exists only now

    by_value = Packer(["travelling"])(travelling.make, "encode_task")
    by_name = Packer()(travelling.make, "encode_task")
    load = "import pickle, sys; print(type(pickle.load(sys.stdin.buffer)()).__name__)"
    elsewhere = [
        subprocess.run([sys.executable, "-c", load], input=given, capture_output=True, check=False)
        for given in (by_value, by_name)
    ]

    assert elsewhere[0].stdout.decode().strip() == "Thing"
    assert b"No module named 'travelling'" in elsewhere[1].stderr
    assert "travelling" not in cloudpickle.list_registry_pickle_by_value()


@pytest.mark.parametrize("given", ["helpers", [7], [None]])
def test_what_is_no_list_of_modules_is_refused(given):
    """The error shows what is right."""
    with pytest.raises(TypeError, match="ship_modules"):
        Packer(given)


def test_what_cannot_be_pickled_is_named():
    """By its type, with what pickle said, and a result with its repr too."""
    with pytest.raises(TransportError, match=r"a lock cannot be pickled"):
        Packer()(threading.Lock(), "encode_task")
    with pytest.raises(TransportError, match=r"the value was <unlocked _thread\.lock"):
        Packer()(threading.Lock(), "encode_result")


def test_the_function_of_a_stream_is_pickled_once():
    """Its tasks bring their arguments; a call of another make brings all of itself."""
    pickled = []

    def pack(value, stage):
        pickled.append(value)
        return pickle.dumps(value)

    wrapping = Wrapping(pack, "5")
    one, two, whole = (
        wrapping.wrap(Task(0, "0", "abs", call))
        for call in (partial(abs, -1), partial(abs, -2), partial(int, "7", base=8))
    )

    assert pickled[:3] == [abs, -1, -2]
    assert wrapping.function_for(one).name == wrapping.function_for(two).name == "5"
    assert wrapping.function_for(whole) is None


def test_a_large_function_travels_only_to_who_lacks_it():
    """With each shipment it would cost more than all that it is called with."""
    wrapping = Wrapping(Packer(), "5")
    ballast = "x" * 100_000
    cargo = wrapping.wrap(Task(0, "0", "f", partial(lambda item: ballast + item, "y")))
    asked_for = type(cargo)(cargo.task, cargo.given, is_argument=True, with_function=True)

    assert wrapping.function_for(cargo).pickled is None
    assert len(wrapping.function_for(asked_for).pickled) > 100_000


def test_a_lane_gives_each_outcome_to_who_waits_for_it():
    """Whatever order they end in, and also to who comes when it is closed."""
    told = []

    async def double(number):
        return 2 * number

    with AsyncStrategy() as strategy:
        lane = Lane(strategy)
        for number in range(3):
            lane.put(Task(number, str(number), "double", partial(double, number)), told.append)
        until(lambda: len(told) == 3)
        lane.close()
        until(lambda: lane._over)
        lane.put(Task(9, "9", "double", partial(double, 9)), told.append)

    assert {(o.key, o.value) for o in told[:3]} == {("0", 0), ("1", 2), ("2", 4)}
    assert (told[3].key, told[3].status) == ("9", "cancelled")


def test_a_lane_whose_strategy_breaks_answers_everybody():
    """What it could not run is lost, with the reason."""

    class Broken(ThreadPoolStrategy):
        def stream(self, tasks):
            tasks.take()
            raise OSError("no more threads")

    told = []
    with Broken() as strategy:
        Lane(strategy).put(Task(0, "0", "abs", partial(abs, 1)), told.append)
        until(lambda: told)

    assert told[0].status == "lost"
    assert "no more threads" in str(told[0].error)


def test_a_seat_lends_for_the_first_part_that_waits_and_reclaims_for_the_last():
    """In the thread that the engine gave, whoever waits."""
    did = []
    seat = Seat(
        (
            lambda: did.append(("lent", threading.current_thread())),
            lambda: did.append(("back", threading.current_thread())),
        )
    )
    serving = threading.current_thread()

    def parts():
        assert seat.lend()
        assert seat.lend()
        seat.reclaim()
        seat.reclaim()
        seat.jobs.put("the outcome")

    threading.Thread(target=lambda: (until(lambda: seat._serving), parts())).start()
    outcome = seat.serve()

    assert outcome == "the outcome"
    assert did == [("lent", serving), ("back", serving)]


def test_a_seat_does_not_lend_for_another_thread_while_its_own_is_busy():
    """It could not do so in time; who asks is told."""
    seat = Seat((lambda: None, lambda: None))
    lent = []
    asking = threading.Thread(target=lambda: lent.append(seat.lend()))
    asking.start()
    asking.join(PATIENCE)

    assert lent == [False]


def test_only_what_tasks_of_an_owner_log_goes_to_it(caplog):
    """The root logger is opened for that, and is as before when the owner is gone."""
    sent = []
    root = logging.getLogger()
    before = root.level
    logger = logging.getLogger("tests.remote")
    forwarding = LogForwarding(lambda *message: sent.append(message), logging.INFO, {"run"})
    forwarding.begin()

    def log(run_id, level, text):
        told = {"stratagem_run_id": run_id, "stratagem_task_key": "7"}
        record = {"name": logger.name, "levelno": level, "levelname": "X", "msg": text, **told}
        logger.handle(logging.makeLogRecord(record))

    log("run", logging.INFO, "ours")
    log("run", logging.DEBUG, "too small")
    log("other", logging.INFO, "another's")
    logger.info("nobody's")
    opened = root.level
    forwarding.end()
    log("run", logging.WARNING, "too late")
    caplog.clear()
    with caplog.at_level(logging.INFO, "tests.remote"):
        replay(sent[0][1])

    assert [fields["msg"] for _, fields in sent] == ["ours"]
    assert opened <= logging.INFO
    assert root.level == before
    assert [(r.getMessage(), r.stratagem_task_key) for r in caplog.records] == [("ours", "7")]


def test_the_remote_parts_cost_who_does_not_use_them_nothing():
    """Neither ``import stratagem`` nor the package itself loads what lives in workers."""
    program = textwrap.dedent(
        """
        import sys, stratagem, stratagem.remote
        print([name for name in sys.modules if name.startswith("stratagem.remote.")])
        """
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert said.stdout.decode().strip() == "[]"
