"""Run the contests side by side, and show what they come to as tables."""

import argparse
import json
import sys
from pathlib import Path

import attrs

from benchmarks.contest import is_ours
from benchmarks.contests import ALL, CLUSTERS, CONTESTS
from benchmarks.machine import this_machine
from benchmarks.page import Found, PageError, markdown, plain, read_page, with_tables
from benchmarks.rounds import run_contest

ROUNDS = 3


def main() -> int:
    """Run what is asked for; give 1 if one of ours gave no figures, whatever the marks say."""
    options = parser()
    asked = options.parse_args()
    machine, command = this_machine(), " ".join(["python -m benchmarks", *_settings(asked)])
    try:
        page = "" if asked.markdown is None else read_page(asked.markdown)
    except PageError as error:
        options.error(str(error))
    for file in (asked.json, asked.markdown):
        if file is not None and not file.parent.is_dir():
            options.error(f"there is no directory {str(file.parent)!r} to write {file.name} to")
    print(machine)
    found = _run(asked)
    if asked.json is not None:
        document = {
            "command": command,
            "machine": attrs.asdict(machine),
            "rows": [attrs.asdict(row) for _, rows in found for row in rows],
        }
        asked.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if asked.markdown is not None:
        text = with_tables(page, markdown(found, machine, command))
        asked.markdown.write_text(text, encoding="utf-8")
    return int(any(row.problem and is_ours(row.contender) for _, rows in found for row in rows))


def _run(asked: argparse.Namespace) -> Found:
    found = []
    for name in names_of(asked):
        contest = CONTESTS[name]
        size = contest.quick if asked.quick else contest.size
        rows = run_contest(contest, rounds=asked.rounds or _rounds(asked), size=size)
        print(f"\n{plain(contest, rows)}", flush=True)
        found.append((contest, rows))
    return found


def names_of(asked: argparse.Namespace) -> list[str]:
    """Give the contests to run: those that are named, or all; on clusters only when asked for."""
    names = asked.only or [contest.name for contest in ALL]
    on_clusters = [contest.name for contest in CLUSTERS] if asked.clusters else []
    return list(dict.fromkeys([*names, *on_clusters]))


def parser() -> argparse.ArgumentParser:
    """Make what reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(CONTESTS),
        metavar="NAME",
        help=f"run this contest, and others so named, alone: {', '.join(CONTESTS)}",
    )
    parser.add_argument(
        "--clusters",
        action="store_true",
        help=f"run those on clusters, too: {', '.join(contest.name for contest in CLUSTERS)}",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and one round")
    parser.add_argument(
        "--rounds", type=_count, help=f"how often each contender runs; {ROUNDS} by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables there, between two marks"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _rounds(asked: argparse.Namespace) -> int:
    return 1 if asked.quick else ROUNDS


def _settings(asked: argparse.Namespace) -> list[str]:
    """Give those of the options that say what was measured."""
    quick = ["--quick"] if asked.quick else []
    rounds = [f"--rounds {asked.rounds}"] if asked.rounds else []
    clusters = ["--clusters"] if asked.clusters else []
    return [*quick, *rounds, *clusters, *(f"--only {name}" for name in asked.only or ())]


if __name__ == "__main__":
    sys.exit(main())
