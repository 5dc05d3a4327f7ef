"""Tags: given for a whole run or for each input, seen by tasks, listeners and strategies."""

import pytest

import stratagem
from stratagem import Engine, hookimpl
from stratagem.tags import NO_TAGS


class TagsSeen:
    """Write down the tags of each task that is announced."""

    def __init__(self):
        self.tags = []

    @hookimpl
    def stratagem_before_task(self, task):
        self.tags.append(task.tags)


@pytest.fixture
def seen():
    return TagsSeen()


@pytest.fixture
def engine(seen):
    with Engine("sequential", plugins=[seen]) as made:
        yield made


def own_tags(_item=None):
    return set(stratagem.current_task().tags)


@pytest.mark.parametrize("given", [["cpu", "slow"], ("slow", "cpu"), {"cpu", "slow"}, "cpu slow"])
def test_words_are_the_tags_of_every_task(engine, seen, given):
    """Any iterable of words will do, also one that can be read once; order means nothing."""
    words = iter(given.split()) if isinstance(given, str) else given
    report = engine.map(own_tags, range(3), tags=words)

    assert report.values == [{"cpu", "slow"}] * 3
    assert seen.tags == [{"cpu", "slow"}] * 3


@pytest.mark.parametrize("strategy", ["threads", "processes(max_workers=1)", "asyncio"])
def test_a_task_sees_its_tags_wherever_it_runs(engine, strategy):
    """``current_task`` gives them in threads, in worker processes and on an event loop."""
    report = engine.map(own_tags, ["a", "b"], tags=lambda item: [item], strategy=strategy)

    assert report.values == [{"a"}, {"b"}]


def test_a_function_gives_the_tags_of_each_item(engine):
    """For ``map`` it is asked about the item, and may give none."""
    report = engine.map(own_tags, range(3), tags=lambda item: ["odd"] * (item % 2))

    assert report.values == [set(), {"odd"}, set()]


def test_a_function_gives_the_tags_of_each_callable(engine):
    """For ``run`` it is asked about the callable, as ``key`` is."""

    def other():
        return own_tags()

    report = engine.run([own_tags, other], tags=lambda call: [call.__name__])

    assert report.values == [{"own_tags"}, {"other"}]


@pytest.mark.parametrize("given", [None, [], ()])
def test_without_tags_tasks_share_one_empty_set(engine, seen, given):
    """Who gives none pays for none."""
    engine.map(abs, [-1, -2], tags=given)

    assert seen.tags == [NO_TAGS, NO_TAGS]
    if given is None:
        assert all(tags is NO_TAGS for tags in seen.tags)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("cpu", TypeError, r"tags are the one text 'cpu'; write \['cpu'\] for a single tag"),
        (7, TypeError, r"tags must be several words, such as \['cpu'\], not 7"),
        (["cpu", 7], TypeError, "tags must each be text, and 7 is not; write '7'"),
        (["cpu", ""], ValueError, "tags have an empty one"),
    ],
)
def test_tags_that_are_none_are_refused_before_anything_runs(engine, seen, given, error, message):
    """Wrong words are an error that shows the right form."""
    with pytest.raises(error, match=message):
        engine.map(abs, [-1], tags=given)

    assert seen.tags == []


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("cpu", TypeError, r"the tags of input 1 are the one text 'cpu'; write \['cpu'\]"),
        (None, TypeError, "the tags of input 1 must be several words"),
        ([b"cpu"], TypeError, "the tags of input 1 must each be text"),
        ([""], ValueError, "the tags of input 1 have an empty one"),
    ],
)
def test_wrong_tags_of_an_input_end_the_run_and_name_it(engine, given, error, message):
    """What was taken before is delivered; the error carries the report."""
    with pytest.raises(error, match=message) as caught:
        engine.map(abs, [-5, -6, -7], tags=lambda item: ["cpu"] if item == -5 else given)

    assert [outcome.value for outcome in caught.value.report] == [5]


def test_a_function_of_tags_that_raises_ends_the_run(engine):
    """Its error is raised as it is."""

    def tags(item):
        raise LookupError(item)

    with pytest.raises(LookupError, match="3"):
        engine.map(abs, [3], tags=tags)


@pytest.mark.once
def test_the_command_line_gives_every_task_its_tags(tmp_path, run_script):
    """``--tag`` may be given again."""
    (tmp_path / "tagged.py").write_text(
        "import stratagem\ndef tags(_):\n    return sorted(stratagem.current_task().tags)\n"
    )
    (tmp_path / "items.txt").write_text("one\n")
    printed = run_script(
        "from stratagem.cli import main\nmain()\n",
        "map", "tagged.py:tags", "items.txt", "--tag", "cpu", "--tag", "slow", "-s", "threads",
        cwd=tmp_path,
    )  # fmt: skip

    assert '"value": ["cpu", "slow"]' in printed


@pytest.mark.once
def test_an_empty_tag_on_the_command_line_is_bad_usage(tmp_path, start_script):
    """It is refused before anything runs."""
    (tmp_path / "items.txt").write_text("one\n")
    process = start_script(
        "from stratagem.cli import main\nmain()\n",
        "map", "builtins:len", "items.txt", "--tag", "",
        cwd=tmp_path,
    )  # fmt: skip
    _, complaints = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "tags have an empty one" in complaints
