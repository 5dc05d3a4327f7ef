"""The file of a journal: whose it is, what is refused, and what happens when it goes wrong."""

import errno
import fcntl
import os
import random
import shutil
import sqlite3
import stat
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from stratagem import Engine
from stratagem.testing.waiting import lines, note
from stratagem_journal import JournalError, JournalRefusedError
from stratagem_journal.errors import JournalDamagedError, JournalInUseError
from stratagem_journal.reading import open_reader
from stratagem_journal.salvage import salvage
from stratagem_journal.store import Store
from stratagem_journal.writing import Writer

pytestmark = pytest.mark.once


@pytest.fixture
def path(tmp_path):
    """Name a journal that is not there yet."""
    return tmp_path / "run.db"


@pytest.fixture
def recorded(engine, path):
    """Make a journal of three tasks."""
    engine.map(str, range(3), journal=path)
    return path


def changed_by(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_for_their_owner_alone(engine, tmp_path, umask):
    """Whatever the umask: the file, its log, its lock, and the directories made for it."""
    path = tmp_path / "made" / "here" / "run.db"
    before = os.umask(umask)
    try:
        if umask == 0o777:
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o700)
            path.parent.parent.chmod(0o700)
        with engine.stream_map(str, range(3), journal=path) as stream:
            next(stream)
            found = {one.name: mode(one) for one in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert found == dict.fromkeys(["run.db", "run.db-shm", "run.db-wal", "run.db.lock"], 0o600)
    assert mode(path.parent) == 0o700


def test_a_link_is_not_followed(engine, recorded, tmp_path):
    """Neither to a journal nor to a place where one would be made."""
    link = tmp_path / "link.db"
    link.symlink_to(recorded)
    with pytest.raises(JournalRefusedError, match="symbolic link"):
        engine.map(str, range(3), journal=link)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(JournalRefusedError, match="symbolic link"):
        engine.map(str, range(3), journal=link)
    link.unlink()
    os.link(recorded, link)
    with pytest.raises(JournalRefusedError, match="2 names"):
        engine.map(str, range(3), journal=link)


def test_a_lock_that_is_a_link_is_not_followed(engine, path, tmp_path):
    """Who can make names in the directory cannot have another file emptied."""
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    Path(f"{path}.lock").symlink_to(victim)
    with pytest.raises(JournalRefusedError, match="no file of its owner"):
        engine.map(str, range(3), journal=path)
    Path(f"{path}.lock").unlink()
    Path(f"{path}-wal").symlink_to(victim)
    with pytest.raises(JournalRefusedError, match="-wal is no file of its owner"):
        engine.map(str, range(3), journal=path)

    assert victim.read_text(encoding="utf-8") == "precious"


def test_what_others_can_write_is_refused(engine, recorded):
    """A file that a group may write, and a directory in which everyone may swap it."""
    recorded.chmod(0o660)
    with pytest.raises(JournalRefusedError, match="others may write it; `chmod 600"):
        engine.map(str, range(3), journal=recorded)
    recorded.chmod(0o600)
    recorded.parent.chmod(0o777)
    try:
        with pytest.raises(JournalRefusedError, match="is writable for all"):
            engine.map(str, range(3), journal=recorded)
        recorded.parent.chmod(0o1777)
        assert engine.map(str, range(3), journal=recorded)[0].recalled
    finally:
        recorded.parent.chmod(0o700)


def test_a_file_of_somebody_else_is_refused(engine, recorded, monkeypatch):
    """Also for root, and also to read it."""
    owner = recorded.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(JournalRefusedError, match=f"belongs to user {owner}"):
        engine.map(str, range(3), journal=recorded)
    with pytest.raises(JournalRefusedError, match=f"belongs to user {owner}"):
        open_reader(recorded)


CRAFTED = {
    "a trigger": (
        "CREATE TRIGGER t AFTER INSERT ON epoch BEGIN DELETE FROM task; END",
        "the trigger 't'",
    ),
    "a view": ("CREATE VIEW v AS SELECT 1", "the view 'v'"),
    "a table": ("CREATE TABLE more (a)", "the table 'more'"),
    "an index": ("CREATE INDEX i ON task (name)", "the index 'i'"),
    "a column": ("ALTER TABLE task ADD COLUMN more", "the table 'task'"),
    "a table less": ("DROP TABLE meta", "misses tables"),
    "another application": ("PRAGMA application_id = 7", "no journal of stratagem"),
    "a newer version": ("PRAGMA user_version = 2", "format 2, and this program knows 1; upgrade"),
    "no version": ("PRAGMA user_version = 0", "format 0"),
}


@pytest.mark.parametrize(("statement", "why"), CRAFTED.values(), ids=CRAFTED)
@pytest.mark.parametrize("action", ["run", "read"])
def test_a_crafted_file_is_refused_with_the_reason(engine, recorded, statement, why, action):
    """Nothing in it is run, and it stays as it is."""
    changed_by(recorded, statement)
    before = recorded.read_bytes()
    with pytest.raises(JournalRefusedError, match=why):
        engine.map(str, range(9), journal=recorded) if action == "run" else open_reader(recorded)

    assert recorded.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00junk"])
def test_a_file_of_another_kind_is_refused(engine, path, content):
    """It is neither taken for a journal nor overwritten."""
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(JournalRefusedError):
        engine.map(str, range(3), journal=path)

    assert path.read_bytes() == content


def test_a_directory_is_refused(engine, tmp_path):
    """The message names it."""
    with pytest.raises(JournalRefusedError, match="no regular file"):
        engine.map(str, range(3), journal=tmp_path)


def test_an_empty_file_is_a_journal_that_was_not_begun(engine, path):
    """A run that was killed as it made its file is begun anew."""
    path.touch(mode=0o600)

    assert engine.map(str, range(3), journal=path, resume=False).values == ["0", "1", "2"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_directory_that_cannot_be_written_fails_at_the_start(engine, tmp_path):
    """Before the first task."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="cannot be made"):
            engine.map(str, range(3), journal=tmp_path / "run.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_that_cannot_be_made_fails_at_the_start(engine, tmp_path):
    """The message says why."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be made: Not a directory"):
        engine.map(str, range(3), journal=tmp_path / "file" / "run.db")


def replace(path):
    shutil.copy(path, f"{path}.copy")
    Path(f"{path}.copy").rename(path)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.unlink(), "was deleted or moved"),
        (lambda path: path.rename(f"{path}.away"), "was deleted or moved"),
        (replace, "was replaced"),
        (lambda path: Path(f"{path}-wal").unlink(), "-wal was deleted"),
        (lambda path: os.link(path, f"{path}.more"), "was replaced"),
    ],
)
@pytest.mark.parametrize("spec", ["sequential", "threads(max_workers=2)"])
def test_a_file_that_is_swapped_under_a_run_stops_it(engine, path, tmp_path, spec, harm, why):
    """At the next record: nothing further begins, and what had ended stands in the report."""
    ledger = tmp_path / "ledger"

    def work(number):
        note(ledger, number)
        if number == 3:
            harm(path)
        return number

    with pytest.raises(JournalError, match=why) as caught:
        engine.map(work, range(10_000), strategy=spec, journal=path)

    ran = {int(line) for line in lines(ledger)}
    report = caught.value.report
    assert {o.index for o in report if o.ok} == ran
    assert {o.status for o in report if o.index not in ran} <= {"cancelled"}
    assert len(ran) < 1000
    assert {o.index for o in caught.value.outcomes if o.ok} >= {3}


def test_a_run_that_was_taken_over_stops(engine, path):
    """A higher epoch in the file fences off who had it before."""

    def work(number):
        if number == 3:
            changed_by(path, "INSERT INTO epoch (epoch) VALUES (99)")
        return number

    with pytest.raises(JournalError, match="another run has taken it over"):
        engine.map(work, range(10_000), strategy="sequential", journal=path)


FULL = """
import os, resource, sys
from stratagem import Engine
from stratagem_journal import JournalError

size = int(sys.argv[2])
if size:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

def work(number):
    return os.urandom(2000).hex()

if __name__ == "__main__":
    with Engine() as engine:
        handed_out = []
        try:
            with engine.stream_map(work, range(100_000), strategy="threads",
                                   journal=sys.argv[1]) as stream:
                for outcome in stream:
                    handed_out.append(outcome.key)
        except JournalError as error:
            assert error.exit_code == 74, error
            kept = {o.key for o in error.outcomes if o.ok}
            assert not kept & set(handed_out)
            assert kept <= {o.key for o in stream.report if o.ok}
            print(len(handed_out), len(error.outcomes), error)
        else:
            print("no failure")
"""


def check_full(printed, path):
    handed_out, _, message = printed.split(" ", 2)
    assert "it cannot be written" in message
    reader = open_reader(path)
    ok = sum(row.status == "ok" for row in reader.all_rows())
    for row in reader.all_rows():
        row.check(path)
    reader.close()
    assert int(handed_out) == ok


@pytest.mark.parametrize("size", [300_000, 1_000_000])
def test_a_file_that_may_not_grow_stops_the_run(run_script, path, size):
    """All that was handed out is in it, whole; nothing further begins, and the error says so."""
    check_full(run_script(FULL, path, size), path)


def test_a_full_disk_stops_the_run(run_script, tmp_path):
    """For real, on a small file system of its own, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=2m,mode=700 tmpfs {disk} 2>/dev/null"):
        pytest.skip("no file system may be mounted here")
    try:
        check_full(run_script(FULL, disk / "run.db", 0), disk / "run.db")
    finally:
        os.system(f"umount {disk}")


def test_a_disk_that_has_room_again_costs_nothing(path, monkeypatch):
    """What could not be written for a moment is written later, in the same run's end."""
    store = Store(path, "full", "test")
    store.close("finished")
    seen = []
    original = Writer._commit

    def failing(self, group):
        if len(seen) < 2:
            seen.append(len(group))
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        original(self, group)

    monkeypatch.setattr(Writer, "_commit", failing)
    with Engine() as engine, pytest.raises(JournalError, match="disk is full") as caught:
        engine.map(str, range(3), journal=path)

    assert caught.value.report.stopped == "strategy_failed"
    monkeypatch.undo()
    with Engine() as engine:
        assert engine.map(str, range(3), journal=path).values == ["0", "1", "2"]


def test_reading_works_while_a_run_writes_and_where_nothing_can_be_written(engine, recorded):
    """A reader never waits for the writer, nor makes files."""
    with engine.stream_map(str, range(9), journal=recorded) as stream:
        next(stream)
        reader = open_reader(recorded)
        assert len(list(reader.all_rows())) >= 3
        reader.close()
    recorded.chmod(0o400)
    reader = open_reader(recorded)
    assert [row.key for row in reader.all_rows()][:3] == ["0", "1", "2"]
    reader.close()
    recorded.chmod(0o600)


def read_all(path):
    reader = open_reader(path)
    try:
        found = list(reader.all_rows())
        for row in found:
            row.check(path)
        return {row.key: row.value for row in found if row.status == "ok"}
    finally:
        reader.close()


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_never_give_a_wrong_value(engine, path, tmp_path, seed):
    """Whatever byte was turned: a resumed run gives right values, or says what is wrong."""
    dice = random.Random(seed)
    items = [f"item {number} " * 20 for number in range(40)]
    engine.map(str.upper, items, journal=path)
    whole = path.read_bytes()
    for trial in range(12):
        broken = bytearray(whole)
        for _ in range(dice.choice([1, 1, 8])):
            broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        copy = tmp_path / f"{trial}.db"
        copy.write_bytes(broken)
        copy.chmod(0o600)
        try:
            report = engine.map(str.upper, items, journal=copy)
        except JournalError:
            continue
        assert report.values == [item.upper() for item in items]


def test_a_torn_log_gives_a_prefix_of_what_was_written(start_script, path, tmp_path):
    """Cut off or zeroed at any place: it opens, and what it holds is all that came before."""
    script = """
import os, signal, sys
from stratagem import map
def work(number):
    if number == 150:
        os.kill(os.getpid(), signal.SIGKILL)
    return "x" * 100
if __name__ == "__main__":
    map(work, range(200), strategy="sequential", journal=sys.argv[1])
"""
    start_script(script, path).wait(60)
    log, dice = Path(f"{path}-wal").read_bytes(), random.Random(1)
    for trial in range(30):
        copy = tmp_path / f"torn-{trial}.db"
        shutil.copy(path, copy)
        at = dice.randrange(len(log))
        torn = log[:at] if trial % 2 else log[:at] + bytes(4096) + log[at + 4096 :]
        Path(f"{copy}-wal").write_bytes(torn)
        try:
            found = read_all(copy)
        except JournalError as error:
            assert "nothing was ever written" in str(error)
            continue

        assert sorted(map(int, found)) == list(range(len(found)))


def test_a_salvaged_journal_knows_what_was_in_doubt(start_script, path):
    """Whoever will not have a task run twice may go on with the copy."""
    script = """
import os, signal, sys
from stratagem import map
def work(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    map(work, range(9), strategy="sequential", journal=sys.argv[1])
"""
    start_script(script, path).wait(60)
    new = path.with_name("new.db")
    told = list(salvage(path, new))
    reader = open_reader(new)

    assert told == [f"3 records copied to {new}"]
    assert reader.in_doubt() == ["3"]
    reader.close()


def test_records_that_cannot_be_read_are_left_out(engine, path):
    """Pages that were overwritten cost what they held; it ends, and says what is lost."""
    engine.map(str.upper, ["x" * 3000] * 40, journal=path)
    broken = bytearray(path.read_bytes())
    for page in range(8, 24):
        broken[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(broken)
    new = path.with_name("new.db")
    copied, *rest = salvage(path, new)

    whole = int(copied.split()[0])
    assert 0 < whole < 40
    assert "lost: " in rest[-1]
    assert engine.map(str.upper, ["x" * 3000] * 40, journal=new).ok


def test_locks_that_a_file_system_lacks_are_told(engine, path, monkeypatch):
    """Without them two runs could write one journal."""

    def none(_descriptor, _operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(JournalError, match=r"has no locks \(No locks available\)"):
        engine.map(str, range(3), journal=path)


def test_a_failure_of_any_kind_ends_the_run(engine, path, monkeypatch):
    """Whoever waits for the writer hears of it, also where nobody thought of it."""

    def fail(_self, _group):
        raise MemoryError("no more")

    monkeypatch.setattr(Writer, "_commit", fail)
    with pytest.raises(JournalError, match=r"cannot be written \(no more\)"):
        engine.map(str, range(3), journal=path)


def test_pages_that_do_not_fit_together_are_refused(engine, path):
    """A file that was cut is not resumed, and the message names what copies the rest."""
    engine.map(str.upper, ["x" * 3000] * 40, journal=path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * 4096)

    with pytest.raises(JournalDamagedError, match="stratagem salvage"):
        engine.map(str.upper, ["x" * 3000] * 40, journal=path)


HOLD = """
import os, sys, time
from stratagem import Engine
if __name__ == "__main__":
    with Engine() as engine:
        stream = engine.stream_map(str, range(3), journal=sys.argv[1])
        next(stream)
        if sys.argv[2] == "fork" and not os.fork():
            time.sleep(600)
        print("held", flush=True)
        sys.stdin.read()
"""


def test_the_lease_is_free_as_soon_as_its_holder_is_dead(engine, start_script, path):
    """And not before; the message names the process."""
    holder = start_script(HOLD, path, "alone")
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(JournalInUseError, match=f"process {holder.pid} on "):
        engine.map(str, range(3), journal=path)
    holder.kill()
    holder.wait()

    assert engine.map(str, range(3), journal=path).values == ["0", "1", "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
def test_workers_hold_no_file_of_the_journal(engine, path):
    """A worker that lives on when its run is killed can neither write nor lock it."""
    spec = f"journal(processes(max_workers=1), path={str(path)!r})"
    report = engine.run([partial(open_files, str(path))], strategy=spec)

    assert report.values == [[]]


def open_files(path):
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            names.append(str(descriptor.readlink()))
    return [name for name in names if name.startswith(path)]
