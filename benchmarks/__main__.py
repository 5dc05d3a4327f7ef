"""Run the contests: ``python -m benchmarks [--only NAME] [--quick] [--json FILE]``."""

import argparse
import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

from benchmarks.contest import Row, run_contest
from benchmarks.contests import CONTESTS

PEERS = ["joblib", "loky", "mpire", "pebble", "aiometer", "langchain-core"]


def main() -> None:
    """Run what is asked for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(CONTESTS), help="one contest")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rounds", type=int, help="how often each contender runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    rounds = asked.rounds or (1 if asked.quick else 3)
    print(_machine())
    rows: list[Row] = []
    for name in asked.only or CONTESTS:
        found = run_contest(CONTESTS[name], rounds=rounds, quick=asked.quick)
        rows += found
        _show(found)
    if asked.json:
        document = {"machine": _machine(), "rows": [attrs.asdict(row) for row in rows]}
        asked.json.write_text(json.dumps(document, indent=1))


def _machine() -> str:
    versions = [f"{name} {_version(name)}" for name in PEERS]
    now = datetime.now(UTC).date().isoformat()
    return (
        f"{now}, CPython {platform.python_version()}, {platform.machine()}, {', '.join(versions)}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _show(rows: list[Row]) -> None:
    print(f"\n{rows[0].contest}: {rows[0].mark}")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f}x"
        met = {True: "met", False: "MISSED", None: ""}[row.met]
        others = ", ".join(
            f"{key} {value:.1f}" for key, value in row.figures.items() if key != "value"
        )
        value = row.figures["value"]
        print(f"  {row.contender:32} {value:10.2f} {row.unit:10} {ratio:>10} {met:7} {others}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
