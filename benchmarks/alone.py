"""Run one contender once: ``python -m benchmarks.alone CONTEST NAME SIZE`` prints its figures."""

import json
import sys

from benchmarks.contests import CONTESTS

if __name__ == "__main__":
    contest, contender, size = sys.argv[1:]
    print(json.dumps(CONTESTS[contest].contenders[contender](int(size))))
