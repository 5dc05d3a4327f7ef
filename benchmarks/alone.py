"""Run one contender once and print its figures: ``python -m benchmarks.alone CONTEST NAME SIZE``."""

import json
import sys

from benchmarks.contests import CONTESTS

if __name__ == "__main__":
    contest, contender, size = sys.argv[1:]
    print(json.dumps(CONTESTS[contest].contenders[contender](int(size))))
