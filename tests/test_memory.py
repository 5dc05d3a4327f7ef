"""Memory over long runs: a stream costs what is in flight, however long it is."""

import pytest

pytestmark = pytest.mark.once

PROGRAM = """
import itertools, sys
import psutil
from stratagem import Engine

spec, size, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]

async def later(number):
    return number

def now(number):
    return number

if __name__ == "__main__":
    me = psutil.Process()
    work = later if form == "async" else now
    count = total = 0
    with Engine(spec) as engine, engine.stream_map(work, itertools.islice(itertools.count(), size)) as stream:
        for outcome in stream:
            count, total = count + 1, total + outcome.value
            if count == 20_000:
                early = me.memory_info().rss
        late = me.memory_info().rss
    print(count, total == size * (size - 1) // 2, stream.report.counts.total(), late - early)
"""
MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("spec", "size", "form"),
    [
        ("sequential", 200_000, "sync"),
        ("threads(max_workers=4)", 150_000, "sync"),
        ("asyncio", 150_000, "async"),
        ("processes(max_workers=2)", 80_000, "sync"),
        ("retry(sequential)", 100_000, "sync"),
    ],
)
def test_a_long_stream_holds_no_more_memory_at_its_end_than_early_on(run_script, spec, size, form):
    """Between the 20,000th outcome and the last one the program grows by less than 15 MB."""
    count, right, reported, growth = run_script(PROGRAM, spec, size, form).split()

    assert (int(count), right, int(reported)) == (size, "True", size)
    assert int(growth) < 15 * MEGABYTE
