"""Run one contender once: ``python -m benchmarks.alone CONTEST NAME SIZE`` prints its figures.

The last line of stdout is a JSON object of them; if there is none, that of stderr says why.
"""

import json
import sys
import traceback

from benchmarks.contests import CONTESTS


def main() -> None:
    """Run it."""
    contest, contender, size = sys.argv[1:]
    try:
        figures = CONTESTS[contest].contenders[contender](int(size))
    except ModuleNotFoundError as error:
        sys.exit(f"missing: {error.name}")
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"failed: {_first(error)!r}")
    print(json.dumps(figures))


def _first(error: Exception) -> Exception:
    """Give the first of a group of errors, whose own words say little."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    main()
