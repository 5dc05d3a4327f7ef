"""Strategy specs: what can be written, and what is refused with which advice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratagem import Engine, SpecError
from stratagem.selection import read_spec
from stratagem.specs import Spec, Word, parse_spec, spec_from_table


def word(text):
    return Word(parse_spec(text), text)


GOOD = [
    ("threads", Spec("threads")),
    ("  threads \n", Spec("threads")),
    ("threads()", Spec("threads")),
    ("threads( )", Spec("threads")),
    ("threads (max_workers = 32 )", Spec("threads", options={"max_workers": 32})),
    ("threads(max_workers=32,)", Spec("threads", options={"max_workers": 32})),
    ("a-b_c", Spec("a-b_c")),
    ("my-dist.x:fast", Spec("fast", "my-dist.x")),
    ("dist:fast(n=1)", Spec("fast", "dist", options={"n": 1})),
    ("retry(threads)", Spec("retry", inner=(Spec("threads"),))),
    (
        "race(threads, d:slow(n=2))",
        Spec("race", inner=(Spec("threads"), Spec("slow", "d", (), {"n": 2}))),
    ),
    (
        "retry(threads(max_workers=3), attempts=4)",
        Spec(
            "retry", inner=(Spec("threads", options={"max_workers": 3}),), options={"attempts": 4}
        ),
    ),
    (
        "a(b(c(d(e))))",
        Spec("a", inner=(Spec("b", inner=(Spec("c", inner=(Spec("d", inner=(Spec("e"),)),)),)),)),
    ),
    ("a(n=-3, x=-1.5e3)", Spec("a", options={"n": -3, "x": -1500.0})),
    ("a(p=None, q=True, r=False)", Spec("a", options={"p": None, "q": True, "r": False})),
    (
        "a(n=[1, -2], m={'x': [3]}, t=(1,))",
        Spec("a", options={"n": [1, -2], "m": {"x": [3]}, "t": (1,)}),
    ),
    ("a(s='x, y')", Spec("a", options={"s": "x, y"})),
    ("a(s='(]})')", Spec("a", options={"s": "(]})"})),
    ('a(s="it\'s")', Spec("a", options={"s": "it's"})),
    (r"a(s='it\'s', t='\\')", Spec("a", options={"s": "it's", "t": "\\"})),
    ("a(s='x=1, y=2', n=1)", Spec("a", options={"s": "x=1, y=2", "n": 1})),
    ("a(s='größe 日本')", Spec("a", options={"s": "größe 日本"})),
    ("a(inner=threads)", Spec("a", options={"inner": word("threads")})),
    ("a(inner=b(n=1), m=2)", Spec("a", options={"inner": word("b(n=1)"), "m": 2})),
]


@pytest.mark.parametrize(("text", "spec"), GOOD, ids=[text for text, _ in GOOD])
def test_a_good_spec_is_read(text, spec):
    """A name, a call and calls within calls are read as what they say."""
    assert parse_spec(text) == spec


BAD = [
    ("", "an empty strategy spec", "name a strategy, such as threads"),
    (" \t\n", "an empty strategy spec", "name a strategy, such as threads"),
    ("8", "'8' is not the name of a strategy", "write name or name(option=value)"),
    ("threads max", "'max' after 'threads' cannot be read", "write name(option=value)"),
    ("threads(n=1) x", "'(n=1) x' after 'threads' cannot be read", "write name(option=value)"),
    ("threads()()", "'()()' after 'threads' cannot be read", "write name(option=value)"),
    ("threads[n=1]", "'[n=1]' after 'threads' cannot be read", "write name(option=value)"),
    ("dist:", "':' after 'dist' cannot be read", "write name(option=value)"),
    ("a(n==1)", "'==1' after 'n' cannot be read", "write name(option=value)"),
    ("threads(n=1", "a bracket is not closed", "close it"),
    ("a(n=[1)", "a bracket is closed by ')'", "close it by its like"),
    ("a(n=1]", "a bracket is closed by ']'", "close it by its like"),
    ("a(s='x)", "a string is not closed", "close it with '"),
    (
        "threads(8)",
        "'8' is given to 'threads' without the name of an option",
        "only strategies are given by position; write threads(option=8)",
    ),
    (
        "retry('threads')",
        "\"'threads'\" is given to 'retry' without the name of an option",
        "only strategies are given by position; write retry(option='threads')",
    ),
    (
        "retry(True)",
        "'True' is given to 'retry' without the name of an option",
        "only strategies are given by position; write retry(option=True)",
    ),
    (
        "retry(n=3, threads)",
        "the strategy 'threads' stands after an option",
        "put strategies first",
    ),
    ("a(n=1, n=2)", "option 'n' is given twice", "give it once"),
    ("a(, n=1)", "an argument is missing before a comma", "leave the comma out"),
    ("a(n=1,, m=2)", "an argument is missing before a comma", "leave the comma out"),
    (
        "threads(max_workers=true)",
        "'true' is not a value for 'max_workers'",
        "write max_workers=True",
    ),
    ("a(n=false)", "'false' is not a value for 'n'", "write n=False"),
    ("a(n=null)", "'null' is not a value for 'n'", "write n=None"),
    ("a(n=)", "'' is not a literal value for 'n'", 'write n=""'),
    ("a(path=run.db)", "'run.db' is not a literal value for 'path'", 'write path="run.db"'),
    ("a(n=1 2)", "'1 2' is not a literal value for 'n'", 'write n="1 2"'),
    ("a(n=2**9)", "'2**9' is not a literal value for 'n'", 'write n="2**9"'),
    ("a(n={[]: 1})", "'{[]: 1}' is not a literal value for 'n'", 'write n="{[]: 1}"'),
    ("a(n=lambda: 1)", "'lambda: 1' is not a literal value for 'n'", 'write n="lambda: 1"'),
]


@pytest.mark.parametrize(("text", "problem", "hint"), BAD, ids=[text for text, _, _ in BAD])
def test_a_bad_spec_is_refused_with_the_right_form(text, problem, hint):
    """The error tells what is wrong, in which spec, and how to write it."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text)

    assert str(caught.value) == f"{problem} in strategy spec {text!r}; {hint}"
    assert (caught.value.spec, caught.value.hint) == (text, hint)


@pytest.mark.parametrize(
    "text",
    [
        "a(" * 2000,
        "a(" * 2000 + ")" * 2000,
        "a(n=" * 2000 + ")" * 2000,
        f"a(n={'[' * 2000}{']' * 2000})",
        f"a(n={'-' * 2000}1)",
    ],
)
def test_a_spec_nested_without_end_is_an_error(text):
    """Two thousand brackets are refused like any other spec that cannot be read."""
    with pytest.raises(SpecError):
        parse_spec(text)


def test_thirty_two_strategies_within_each_other_can_be_read():
    """The bound on nesting is far from what anybody writes."""
    text = "a(" * 31 + "a" + ")" * 31

    assert str(parse_spec(text)).count("Spec(") == 32
    with pytest.raises(SpecError, match="nested more than 32 deep"):
        parse_spec(f"a({text})")


@given(
    st.one_of(st.text(), st.text("abn=,()[]{}'\"\\: 1.-\n\x00#"), st.text().map("a(n={})".format))
)
def test_any_text_is_a_spec_or_a_spec_error(text):
    """Whatever is written, reading it gives a spec or raises SpecError and nothing else."""
    try:
        read = parse_spec(text)
    except SpecError as error:
        read = error

    assert isinstance(read, Spec | SpecError)


@pytest.mark.parametrize(
    "value",
    [
        "print('evaluated')",
        "[print('evaluated')]",
        "(lambda: print('evaluated'))()",
        "f'{1}'",
        "x.y",
        "y[0]",
    ],
)
def test_nothing_is_evaluated_as_code(value, capsys):
    """A value that is code is never run: it is refused, or is the name of a strategy at most."""
    text = f"threads(max_workers={value})"

    with pytest.raises(SpecError):
        Engine().strategy(text)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("table", "spec"),
    [
        ({"use": "threads"}, Spec("threads")),
        ({"use": "threads", "max_workers": 3}, Spec("threads", options={"max_workers": 3})),
        ({"use": "d:threads(grace=1)", "n": 3}, Spec("threads", "d", (), {"grace": 1, "n": 3})),
        ({"use": "a", "m": {"x": 1}}, Spec("a", options={"m": {"x": 1}})),
        (
            {"use": "retry", "n": 4, "inner": {"use": "threads", "m": 2}},
            Spec("retry", options={"n": 4, "inner": Spec("threads", options={"m": 2})}),
        ),
    ],
)
def test_a_table_says_the_same_as_text(table, spec):
    """A table names its strategy under ``use``; a table within it that does so too is a spec."""
    assert spec_from_table(table) == spec


def test_a_table_without_a_name_is_refused():
    """A table that does not say which strategy it is of shows how to."""
    with pytest.raises(SpecError) as caught:
        spec_from_table({"max_workers": 3})

    assert str(caught.value).endswith(
        "needs its name under 'use' in strategy spec {'max_workers': 3}; write {use = \"threads\"}"
    )


def test_an_option_given_in_name_and_table_is_refused():
    """An option may stand in the text under ``use`` or beside it, not in both."""
    with pytest.raises(SpecError, match="option 'n' is given twice"):
        spec_from_table({"use": "a(n=1)", "n": 2})


def test_what_is_neither_text_nor_table_is_refused():
    """A strategy given as something else is a TypeError that names the three forms."""
    with pytest.raises(TypeError) as caught:
        read_spec(8)

    assert str(caught.value) == (
        "a strategy is given as text, as a table, or as an ExecutionStrategy object, not as 'int'"
    )
