"""Putting queries together: placeholders, fragments, and template strings by their shape."""

import string
from dataclasses import dataclass
from typing import Any

import pytest

from sqlhttp import InterfaceError, Query
from sqlhttp._template import Maker, query_of, statement_of

make = Maker()


@dataclass(frozen=True)
class Interpolation:
    """As string.templatelib has it (PEP 750)."""

    value: Any
    expression: str
    conversion: Any
    format_spec: str


class Template:
    """What `t"…"` gives from Python 3.14 on, with the same two attributes."""

    def __init__(self, text: str, /, **values: Any) -> None:
        strings = [""]
        self.interpolations: tuple[Interpolation, ...] = ()
        for before, name, spec, conversion in string.Formatter().parse(text):
            strings[-1] += before
            if name is not None:
                self.interpolations += (Interpolation(values[name], name, conversion, spec or ""),)
                strings.append("")
        self.strings = tuple(strings)


def sent(text: Any, *params: Any) -> tuple[str, tuple[str | None, ...]]:
    return tuple(statement_of(query_of(text, params)))  # type: ignore[return-value]


# ── plain text ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_text_is_sent_as_it_is() -> None:
    assert sent("select $1, '{x}' %s", 5) == ("select $1, '{x}' %s", ("5",))
    assert sent("select $2", 1) == ("select $2", ("1",))  # what is wrong with it, Postgres says best


def test_a_fragment_takes_the_place_of_its_parameter() -> None:
    text, params = sent("select * from $1 where $2 = $3 order by $2", make.ident("a b"), make.ident("c"), 5)
    assert (text, params) == ('select * from "a b" where "c" = $1 order by "c"', ("5",))


def test_parameters_of_fragments_are_numbered_anew() -> None:
    where: Query[Any] = Query("x > $1 and y < $2 and x < $1", (1, 2))
    text, params = sent("select $1 from t where $2 and z = $3", 0, where, 3)
    assert text == "select $1 from t where x > $2 and y < $3 and x < $2 and z = $4"
    assert params == ("0", "1", "2", "3")


def test_a_dollar_in_quotes_is_no_place_for_a_fragment() -> None:
    assert sent("select '$1', $1", make.unsafe("now()")) == ("select '$1', now()", ())


def test_queries_are_joined() -> None:
    assert sent(make.join([1, make.unsafe("now()"), "x"])) == ("$1, now(), $2", ("1", "x"))
    conditions = make.join([Query("a = $1", (1,)), Query("b = $1", (2,))], " and ")
    assert sent("select 1 where $1", conditions) == ("select 1 where a = $1 and b = $2", ("1", "2"))
    assert sent(make.join([])) == ("", ())


def test_queries_are_added() -> None:
    query = Query("select * from t") + Query(" where x = $1", (1,)) + Query(" limit $1", (2,))
    assert sent(query) == ("select * from t where x = $1 limit $2", ("1", "2"))
    with pytest.raises(TypeError):
        Query("select") + "x"  # type: ignore[operator]


def test_parts_that_would_merge_are_kept_apart() -> None:
    assert sent(Query("$1$2", (5, make.unsafe("0")))) == ("$1 0", ("5",))
    assert sent(make.ident("a") + make.ident("b"))[0] == '"a" "b"'
    assert sent(make.unsafe("a") + make.unsafe("$1", 7)) == ("a $1", ("7",))
    assert sent(make.unsafe("€") + make.unsafe("$1", 7)) == ("€ $1", ("7",))
    assert sent(make.unsafe("1 -") + make.unsafe("-1"))[0] == "1 - -1"


@pytest.mark.parametrize(
    ("text", "params", "words"),
    [
        ("select $2", (make.ident("a"),), r"\$2 has no parameter"),
        ("select $0", (make.ident("a"),), r"\$0 has no parameter"),
        ("select 1", (make.ident("a"),), r"no \$1 for its parameter 1"),
        (5, (), "not int"),
        (b"select 1", (), "not bytes"),
    ],
)
def test_what_does_not_fit_together_is_refused(text: Any, params: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InterfaceError, match=words):
        sent(text, *params)


def test_unsafe_takes_text_alone() -> None:
    with pytest.raises(InterfaceError, match="string"):
        make.unsafe(5)  # type: ignore[arg-type]


def test_a_query_does_not_show_its_parameters() -> None:
    assert repr(Query("select $1", ("secret",))) == "Query('select $1', 1 parameters)"


# ── template strings ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_values_of_a_template_become_parameters() -> None:
    template = Template("select * from t where a = {a} and b = {b}", a=1, b="x'; drop table t--")
    assert sent(template) == ("select * from t where a = $1 and b = $2", ("1", "x'; drop table t--"))


def test_format_specifications_are_psycopgs() -> None:
    template = Template(
        "select {column:i} from {table:i} where {where:q} and d = {day:l} and x = {x:s}",
        column="na me",
        table=("public", "t"),
        where=Template("a = {a} or {b}", a=1, b=Query("b = $1", (2,))),
        day=None,
        x=3,
    )
    assert sent(template) == (
        'select "na me" from "public"."t" where a = $1 or b = $2 and d = NULL and x = $3',
        ("1", "2", "3"),
    )


def test_a_query_or_template_is_a_part_without_a_specification_too() -> None:
    template = Template("{a} union {b}", a=Template("select {x}", x=1), b=make.unsafe("select 2"))
    assert sent(template) == ("select $1 union select 2", ("1",))


def test_an_identifier_may_have_been_made_before() -> None:
    assert sent(Template("select {c:i}", c=make.ident("a b"))) == ('select "a b"', ())


def test_a_conversion_is_made_first() -> None:
    assert sent(Template("select {x!r}", x="a")) == ("select $1", ("'a'",))


def test_bytes_say_their_type() -> None:
    assert sent(Template("select {x}", x=b"\x01")) == ("select $1::bytea", (r"\x01",))


def test_a_value_that_is_followed_by_a_digit_stays_itself() -> None:
    assert sent(Template("select {x}1", x=1)) == ("select $1 1", ("1",))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (Template("select '{x}'", x=1), "inside quotes"),
        (Template('select "{x}"', x=1), "inside quotes"),
        (Template("select 1 -- {x}", x=1), "comment"),
        (Template("select $1, {x}", x=1), r"\$n of its own"),
        (Template("select t{x}", x=1), "inside quotes"),
        (Template("select {x:d}", x=1), "not known"),
        (Template("select {x:q}", x="select 1"), "takes a Query"),
        (Template("select {x:i}", x=""), "name"),
    ],
)
def test_a_template_that_is_not_what_it_seems_is_refused(template: Template, words: str) -> None:
    with pytest.raises(InterfaceError, match=words):
        sent(template)


def test_a_template_takes_no_further_parameters() -> None:
    with pytest.raises(InterfaceError, match="no other"):
        sent(Template("select {x}", x=1), 2)
