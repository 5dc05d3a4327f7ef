"""The benchmarks: their table is whole, contenders run, and rows say what became of each."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from benchmarks.__main__ import names_of, parser
from benchmarks.bound import greedy_bound
from benchmarks.contest import Contest, Mark, is_ours, judge
from benchmarks.contests import ALL, CLUSTERS, CONTESTS
from benchmarks.flight import Flight
from benchmarks.machine import this_machine
from benchmarks.page import PageError, markdown, plain, read_page, with_tables
from benchmarks.rounds import ContenderError, run_alone, run_contest

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="they run on Linux and macOS"),
]

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "sequential": 20,
    "threads": 20,
    "asyncio": 20,
    "processes": 20,
    "hooks": 20,
    "log": 20,
    "calls": 2,
    "nested": 1,
    "memory": 20,
    "idle-consumer": 1,
    "import": 1,
    "list-strategies": 1,
    "command-line": 20,
    "journal": 20,
    "resume": 20,
}
"""Sizes at which ours run in a test; each contest that is left out sleeps a second or more."""
PATIENT = {"tiny-then-heavy", "lognormal", "one-heavy-first"}
RACE = Contest(
    "race",
    "Run.",
    100,
    10,
    {"stratagem": None, "stratagem slow": None, "hare": None, "tortoise": None},
    [Mark("seconds", 0.5, "hare"), Mark("MB", 30)],
)


def alone(name):
    """Give the parameters of each of our contenders in a contest."""
    return [(name, contender) for contender in CONTESTS[name].contenders if is_ours(contender)]


def row_of(rows, contender):
    return next(row for row in rows if row.contender == contender)


def in_a_race(figures):
    """Give what runs a contender of the race: it gives the next of its figures, or raises them."""
    heard = []

    def run(contest, contender, size):
        heard.append((contender, size))
        found = figures[contender]
        if isinstance(found, ContenderError):
            raise found
        return found.pop(0)

    return run, heard


def test_the_table_of_contests_is_whole():
    """Names are unique, ours come first, and marks name contenders and are for something."""
    everyday = [contest.name for contest in ALL]
    assert len(CONTESTS) == len(ALL) + len(CLUSTERS)
    assert TINY.keys() | PATIENT == set(everyday)
    assert list(CONTESTS)[: len(ALL)] == everyday
    for contest in CONTESTS.values():
        assert is_ours(next(iter(contest.contenders)))
        assert contest.marks
        assert {mark.against for mark in contest.marks} <= {None, *contest.contenders}
        assert 0 < contest.quick <= contest.size


@pytest.mark.parametrize(("name", "contender"), [pair for name in TINY for pair in alone(name)])
def test_ours_give_the_figures_that_they_are_judged_by(name, contender):
    """Each of our contenders runs in a process of its own and gives every figure of the marks."""
    contest = CONTESTS[name]

    figures = run_alone(contest, contender, TINY[name])

    assert {mark.figure for mark in contest.marks} <= figures.keys()


def test_a_peer_that_is_not_installed_says_so(monkeypatch, tmp_path):
    """The row of a contender whose library is missing names the library."""
    (tmp_path / "joblib.py").write_text("raise ModuleNotFoundError('gone', name='joblib')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    with pytest.raises(ContenderError, match=r"^missing: joblib$"):
        run_alone(CONTESTS["sequential"], "joblib n_jobs=1", 20)


def test_a_contender_that_does_not_end_is_ended():
    """A contender that runs past the patience of its contest is killed and says so."""
    contest = attrs.evolve(CONTESTS["idle-consumer"], patience=0.5)

    with pytest.raises(ContenderError, match=r"^did not end within 0.5 s$"):
        run_alone(contest, "stratagem sequential", 1_000_000)


def test_a_contender_that_fails_says_why():
    """The reason is the error, and the traceback is kept."""
    with pytest.raises(
        ContenderError, match="^failed: KeyError\\('stratagem thread'\\)$"
    ) as caught:
        run_alone(CONTESTS["nested"], "stratagem thread", 1)

    assert "Traceback" in caught.value.printed


def test_the_contenders_of_a_contest_run_in_turn():
    """Each round runs all of them, one after another; the row holds the medians and all rounds."""
    contest = attrs.evolve(RACE, contenders={"stratagem": None, "hare": None})
    run, heard = in_a_race(
        {
            "stratagem": [{"seconds": 3.0}, {"seconds": 1.0}, {"seconds": 2.0}],
            "hare": [{"seconds": 4.0}, {"seconds": 6.0}, {"seconds": 5.0}],
        }
    )

    rows = run_contest(contest, rounds=3, size=7, run=run)

    assert heard == [("stratagem", 7), ("hare", 7)] * 3
    assert [row.figures for row in rows] == [{"seconds": 2.0}, {"seconds": 5.0}]
    assert rows[0].rounds == [{"seconds": 3.0}, {"seconds": 1.0}, {"seconds": 2.0}]


def test_a_contender_that_gave_no_figures_is_out_of_the_rounds_that_follow():
    """Its row has the problem and no figures, and the others go on."""
    contest = attrs.evolve(RACE, contenders={"stratagem": None, "hare": None})
    run, heard = in_a_race(
        {"stratagem": [{"seconds": 1.0}] * 2, "hare": ContenderError("missing: hare")}
    )

    rows = run_contest(contest, rounds=2, size=7, run=run)

    assert heard == [("stratagem", 7), ("hare", 7), ("stratagem", 7)]
    assert [row.problem for row in rows] == [None, "missing: hare"]
    assert rows[1].figures == {}
    assert rows[0].scores[0].met is None


def test_marks_hold_for_ours_alone():
    """A mark is met or missed by ours; what it is held against is known of the others too."""
    rows = judge(
        RACE,
        10,
        {
            "stratagem": [{"seconds": 1.0, "MB": 30.0}],
            "stratagem slow": [{"seconds": 1.5, "MB": 31.0}],
            "hare": [{"seconds": 2.0, "MB": 99.0}],
            "tortoise": [{"seconds": 8.0}],
        },
        {},
    )

    assert [[(score.value, score.met) for score in row.scores] for row in rows] == [
        [(0.5, True), (30.0, True)],
        [(0.75, False), (31.0, False)],
        [(1.0, None), (99.0, None)],
        [(4.0, None), (None, None)],
    ]


@pytest.mark.parametrize(
    ("durations", "workers", "bound"),
    [
        ([], 3, 0.0),
        ([1.0, 2.0, 3.0], 1, 6.0),
        ([1.0, 2.0, 3.0], 3, 3.0),
        ([1.0, 1.0, 1.0], 2, 2.0),
        ([1.0, 2.0, 3.0, 1.0], 2, 4.0),  # 1 + 3 beside 2 + 1
        ([3.0, 1.0, 1.0, 1.0], 2, 3.0),
        ([1.0, 1.0, 1.0, 3.0], 2, 4.0),  # in order: the heavy one comes last and late
    ],
)
def test_the_greedy_bound_gives_each_task_in_order_to_who_is_free_first(durations, workers, bound):
    """The bound is the wall time of that schedule."""
    assert greedy_bound(durations, workers) == bound


def test_the_peak_of_a_flight_is_the_most_that_were_in_it_at_once(tmp_path):
    """Who left counts no more, who fails leaves."""
    flight = Flight.opened(tmp_path / "flight")

    with flight.aboard(), flight.aboard():
        pass
    with pytest.raises(ZeroDivisionError), flight.aboard(), flight.aboard(), flight.aboard():
        raise ZeroDivisionError
    with flight.aboard():
        pass

    assert flight.peak == 3


def rows_of_the_race():
    return judge(
        RACE,
        1_000,
        {
            "stratagem": [{"seconds": 0.5, "MB": 3}],
            "stratagem slow": [{"seconds": 15.04, "MB": 31}],
            "hare": [{"seconds": 2.0, "MB": 1234}],
        },
        {"tortoise": "failed: OSError('a|b')"},
    )


def test_markdown_shows_every_contest_as_a_table():
    """A table has its figures, ratios and verdicts; a problem stands where the verdict would."""
    page = markdown([(RACE, rows_of_the_race())], this_machine(), "python -m benchmarks --quick")

    assert "`python -m benchmarks --quick`" in page
    assert page.endswith(
        """\
### race

Run. Size 1,000. Mark: seconds: at most 0.5 of hare; MB: at most 30.

| contender | seconds | MB | / hare | mark |
| --- | ---: | ---: | ---: | --- |
| stratagem | 0.50 | 3 | 0.25 | met |
| stratagem slow | 15.0 | 31 | 7.52 | MISSED: seconds, MB |
| hare | 2.00 | 1,234 | 1.00 |  |
| tortoise |  |  |  | failed: OSError('a&#124;b') |"""
    )


def test_the_terminal_shows_the_same_in_columns():
    """Columns are aligned, and nothing trails."""
    assert plain(RACE, rows_of_the_race()).splitlines() == [
        "race: Run.",
        "Size 1,000. Mark: seconds: at most 0.5 of hare; MB: at most 30.",
        "contender       seconds     MB  / hare  mark",
        "stratagem          0.50      3    0.25  met",
        "stratagem slow     15.0     31    7.52  MISSED: seconds, MB",
        "hare               2.00  1,234    1.00",
        "tortoise                                failed: OSError('a|b')",
    ]


def test_tables_are_written_where_the_page_has_a_place_for_them():
    """The words around stay, the tables of before go, and once more changes nothing."""
    page = ROOT / "docs" / "benchmarks.md"
    before = read_page(page)

    once = with_tables(before, "### other tables")

    assert with_tables(once, "### other tables") == once
    assert "### other tables" in once
    assert "### threads" in before
    assert "### threads" not in once
    assert once.startswith("# Benchmarks\n")


def test_a_page_without_a_place_for_the_tables_is_not_touched(tmp_path):
    """The error says how it gets one; a page that is not there yet is that place."""
    page = tmp_path / "page.md"
    fresh = read_page(page)
    page.write_text("my novel")

    with pytest.raises(PageError, match="put these two lines") as caught:
        read_page(page)

    assert fresh in f"{caught.value}\n"
    assert with_tables(fresh, "a table").count("a table") == 1


def test_the_page_shows_every_contest():
    """The documentation has a table for each contest there is; clusters have theirs together."""
    page = read_page(ROOT / "docs" / "benchmarks.md")
    tables = re.findall(r"^### (.+)$", page, re.MULTILINE)

    assert tables[: len(ALL)] == [contest.name for contest in ALL]
    assert tables[len(ALL) :] in ([], [contest.name for contest in CLUSTERS])


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ([], [contest.name for contest in ALL]),
        (["--only", "threads", "--only", "ray"], ["threads", "ray"]),
        (["--clusters"], list(CONTESTS)),
        (["--only", "threads", "--clusters"], ["threads", *(c.name for c in CLUSTERS)]),
    ],
)
def test_clusters_run_only_when_they_are_asked_for(asked, names):
    """By their names, or together with others."""
    assert names_of(parser().parse_args(asked)) == names


def test_a_plugin_that_is_not_installed_says_so(monkeypatch, tmp_path):
    """The row of a strategy of ours whose distribution is missing names it."""
    (tmp_path / "stratagem_ray.py").write_text(
        "raise ModuleNotFoundError('gone', name='stratagem_ray')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    with pytest.raises(ContenderError, match=r"^missing: stratagem_ray$"):
        run_alone(CONTESTS["ray"], "stratagem ray", 20)


def test_the_command_writes_what_is_asked_for(tmp_path):
    """It runs the contests that are named, prints them, and writes figures and tables."""
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    asked = ["--only", "list-strategies", "--quick", "--json", figures, "--markdown", page]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    found = json.loads(figures.read_text())
    assert found["command"] == "python -m benchmarks --quick --only list-strategies"
    assert [(row["contest"], row["problem"]) for row in found["rows"]] == [
        ("list-strategies", None)
    ]
    assert "### list-strategies" in page.read_text()
    assert "list-strategies: " in done.stdout
