"""Run one contender once: ``python -m benchmarks.alone CONTEST NAME SIZE`` prints its figures.

The last line of stdout is a JSON object of them; if there is none, that of stderr says why.
"""

import json
import sys

from benchmarks.contests import CONTESTS


def main() -> None:
    """Run it."""
    contest, contender, size = sys.argv[1:]
    try:
        figures = CONTESTS[contest].contenders[contender](int(size))
    except ModuleNotFoundError as error:
        sys.exit(f"missing: {error.name}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
