"""What goes in through the client comes out equal, for every type it knows, through a real gateway and Postgres.

Each value is a parameter and a result, alone, in a column and in arrays, with the synchronous and the asynchronous
client.
"""

import asyncio
import math
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlhttp import Json, neon, neon_async
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway
from tests.support.program import scratch_database

KOLKATA = timezone(timedelta(hours=5, minutes=30))
AMSTERDAM_1937 = timezone(timedelta(minutes=19, seconds=32))

SAME: dict[str, list[Any]] = {
    "bool": [True, False],
    "int2": [0, -(2**15), 2**15 - 1],
    "int4": [0, -(2**31), 2**31 - 1],
    "int8": [0, -(2**63), 2**63 - 1, 2**53 + 1],
    "oid": [0, 2**32 - 1],
    "xid": [3, 2**32 - 1],
    "cid": [0, 2**32 - 1],
    "xid8": [0, 2**64 - 1],
    "float4": [0.0, -0.0, 1.5, 1.1, -3.4e38, 1e-45, math.inf, -math.inf, math.nan],
    "float8": [0.0, -0.0, 0.1, 1e300, -1.7976931348623157e308, 5e-324, 1e21, math.inf, -math.inf, math.nan],
    "numeric": [
        Decimal("0"),
        Decimal("-0.10"),
        Decimal("1E+30"),
        Decimal("1E-30"),
        Decimal("9" * 100 + "." + "1" * 100),
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
    ],
    "numeric(10,2)": [Decimal("12345678.90")],
    "money": ["$0.00", "-$1,234.56"],
    "text": [
        "",
        "NULL",
        "null",
        "it's",
        'a "b"',
        "back\\slash",
        "tab\tline\nend\r",
        "ä€😀\u200d",
        "{1,2}",
        "a" * 100_000,
    ],
    "varchar": ["", "x y"],
    "varchar(5)": ["ä€😀"],
    "char(3)": ["abc"],
    '"char"': ["a"],
    "name": ["x" * 63],
    "bytea": [b"", b"\x00\xff", bytes(range(256)), b"\\x41", b"\\000"],
    "uuid": [UUID(int=0), UUID(int=2**128 - 1)],
    "date": [date.min, date.max, date(2000, 2, 29), "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"],
    "time": [time.min, time.max, time(12, 30, 0, 1), "24:00:00"],
    "timetz": [time(1, 2, 3, 4, KOLKATA), time(0, tzinfo=UTC), time(1, tzinfo=AMSTERDAM_1937)],
    "timestamp": [datetime.min, datetime.max, datetime(2020, 1, 1, 0, 0, 0, 1), "infinity", "0044-03-15 12:00:00 BC"],
    "timestamptz": [
        datetime(2020, 2, 29, 1, 2, 3, 4, UTC),
        datetime(1937, 1, 1, tzinfo=AMSTERDAM_1937),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=KOLKATA),
        "-infinity",
    ],
    "interval": [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(microseconds=-1),
        timedelta(days=-1, seconds=1),
        timedelta(days=10_000, hours=23, minutes=59, seconds=59, microseconds=999_999),
    ],
    "json": [{"a": [1, 2.5, None, True, {"ä": "€😀"}]}, {}, {"quote": '"\\\n'}],
    "jsonb": [{"a": [1, 2.5, None, True, {"ä": "€😀"}]}, {}, {"quote": '"\\\n'}],
    "inet": [ip_address("0.0.0.0"), ip_address("::1"), ip_interface("10.1.2.3/8"), ip_interface("2001:db8::1/64")],
    "cidr": [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), ip_network("1.2.3.4/32")],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(3)": ["101"],
    "varbit": ["", "1011"],
    "point": ["(1,2)"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,1)]"],
    "box": ["(2,2),(1,1)"],
    "path": ["((0,0),(1,1))", "[(0,0),(1,1)]"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "circle": ["<(0,0),5>"],
    "int4range": ["empty", "[1,5)", "(,)"],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["(1.5,2.5]"],
    "daterange": ["[2020-01-01,2020-02-01)", "(,infinity)"],
    "tsrange": ['["2020-01-01 00:00:00","2020-01-02 00:00:00")'],
    "int4multirange": ["{}", "{[1,3),[5,7)}"],
    "nummultirange": ["{[1.5,2.5]}"],
    "datemultirange": ["{[2020-01-01,2020-02-01)}"],
    "tsvector": ["'fat':2 'rat':3"],
    "tsquery": ["'fat' & ( 'rat' | 'cat' )"],
    "jsonpath": ['$."a"[*]'],
    "pg_lsn": ["16/B374D848"],
    "txid_snapshot": ["10:20:10,14,15"],
    "regclass": ["pg_class"],
    "regtype": ["integer"],
    "int2vector": ["1 2 3"],
    "oidvector": ["1 2"],
    "mood": ["sad", "very 'happy'"],
    "pair": ['(1,"a ""b"", c")', "(,)"],
    "year": [1901],
    "int4[]": [[], [1, None, 3], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]],
    "text[]": [["", "NULL", None, 'q"', "b\\", "{},", "a\nb", " pad "]],
    "bool[]": [[True, None, False]],
    "bytea[]": [[b"", b"\x00\xff", None]],
    "numeric[]": [[Decimal("1.10"), None, Decimal("Infinity")]],
    "float8[]": [[0.1, -math.inf, None]],
    "uuid[]": [[UUID(int=1), None]],
    "date[]": [[date.min, None, "infinity"]],
    "timestamptz[]": [[datetime(2020, 1, 1, tzinfo=UTC), None]],
    "interval[]": [[timedelta(days=1, seconds=1)]],
    "jsonb[]": [[{"a": '"{}'}, None, {}]],
    "inet[]": [[ip_address("10.0.0.1"), ip_interface("10.0.0.1/8")]],
    "int4range[]": [["[1,5)", "empty"]],
}
"""A type, and values that come out as they went in; text where Python has no type that holds them."""

OTHERWISE: list[tuple[str, Any, Any]] = [
    ("text", 7, "7"),  # the type decides, not the parameter
    ("text", Decimal("1.10"), "1.10"),
    ("numeric", 2**100, Decimal(2**100)),
    ("int4[]", (1, 2), [1, 2]),
    ("jsonb", Json([1, "a", None]), [1, "a", None]),
    ("json", Json("text"), "text"),
    ("jsonb", Json(None), None),
    ("jsonb", Json(1.5), 1.5),
    ("timestamptz", datetime(2020, 1, 1, 5, 30, tzinfo=KOLKATA), datetime(2020, 1, 1, tzinfo=UTC)),
    ("interval", "1 year 2 mons", timedelta(days=425)),
    ("char(5)", "ab", "ab   "),
    ("inet", "10.0.0.1/32", ip_address("10.0.0.1")),
    ("int4[]", "[0:1]={7,8}", [7, 8]),
    ("box[]", "{(2,2),(1,1);(4,4),(3,3)}", ["(2,2),(1,1)", "(4,4),(3,3)"]),
]

Ask = Callable[..., Any]
"""`val` of either client, as a plain function."""


@pytest.fixture(scope="module")
def database(postgres: Cluster) -> Iterator[Database]:
    with scratch_database(postgres) as database:
        database.psql(
            "CREATE TYPE mood AS ENUM ('sad', 'very ''happy''');"
            "CREATE TYPE pair AS (number int, word text);"
            "CREATE DOMAIN year AS int CHECK (value > 1900);"
        )
        yield database


@pytest.fixture(scope="module", params=["sync", "async"])
def ask(request: pytest.FixtureRequest, gateway: Gateway, database: Database) -> Iterator[Ask]:
    if request.param == "sync":
        yield neon(database.url, endpoint=gateway.sql).val
        return
    sql = neon_async(database.url, endpoint=gateway.sql)
    with asyncio.Runner() as runner:

        async def run(text: Any, *params: Any) -> Any:
            return await sql.val(text, *params)

        yield lambda text, *params: runner.run(run(text, *params))


def equal(found: Any, wanted: Any) -> bool:
    """Equal in value and type, where NaN equals itself and zero has a sign."""
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(equal, found, wanted))
    if isinstance(wanted, float | Decimal) and wanted != wanted:
        return type(found) is type(wanted) and found != found
    if isinstance(wanted, float):
        return found == wanted and math.copysign(1, found) == math.copysign(1, wanted)
    return type(found) is type(wanted) and bool(found == wanted)


@pytest.mark.parametrize("kind", SAME)
def test_a_value_comes_out_as_it_went_in(kind: str, ask: Ask) -> None:
    for value in SAME[kind]:
        assert equal(found := ask(f"select $1::{kind}", value), value), (value, found)
    assert ask(f"select $1::{kind}", None) is None


ARRAY_IS_TEXT = {"mood", "pair", "year"}  # whose OIDs are not known beforehand
OTHER_DELIMITER = {"box"}  # a semicolon, which a parameter's value does not tell
WITH_ARRAY = [kind for kind in SAME if not kind.endswith("[]") and kind not in ARRAY_IS_TEXT | OTHER_DELIMITER]


@pytest.mark.parametrize("kind", WITH_ARRAY)
def test_values_come_out_of_an_array_as_they_went_in(kind: str, ask: Ask) -> None:
    values = [value for value in SAME[kind] if kind != "text" or len(value) < 1000]
    assert equal(found := ask(f"select $1::{kind}[]", [*values, None]), [*values, None]), found


@pytest.mark.parametrize(("kind", "value", "wanted"), OTHERWISE, ids=lambda item: str(item)[:20])
def test_a_value_comes_out_as_its_type_has_it(kind: str, value: Any, wanted: Any, ask: Ask) -> None:
    assert equal(found := ask(f"select $1::{kind}", value), wanted), found


def test_a_row_of_all_types_goes_through_a_table(gateway: Gateway, database: Database) -> None:
    sql = neon(database.url, endpoint=gateway.sql)
    kinds = [kind for kind in SAME if kind not in ("cid", "txid_snapshot")]  # of no use in a column
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
    sql(sql.unsafe(f"create table every_type ({columns})"))
    values = [SAME[kind][-1] for kind in kinds]
    marks = ", ".join(f"${number}" for number in range(1, len(kinds) + 1))
    found = sql.query(sql.unsafe(f"insert into every_type values ({marks}) returning *"), values, array_mode=True)
    for kind, value, wanted in zip(kinds, found[0], values, strict=True):
        assert equal(value, wanted), (kind, value, wanted)
    assert len(kinds) > 60


def test_types_of_the_callers_own_are_read_by_its_functions(gateway: Gateway, database: Database) -> None:
    sql = neon(database.url, endpoint=gateway.sql)
    oid = sql.val("select 'mood[]'::regtype::oid")
    read = sql.with_(types={oid: lambda text: text[1:-1].split(","), 1700: float})
    assert read.one("select '{sad,sad}'::mood[] as m, 1.5 as n, '{2.5}'::numeric[] as a") == {
        "m": ["sad", "sad"],
        "n": 1.5,
        "a": [2.5],
    }


# ── any value at all ─────────────────────────────────────────────────────────────────────────────────────────────────

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
zones = st.builds(timezone, st.integers(-15 * 60, 15 * 60).map(lambda minutes: timedelta(minutes=minutes)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)

ANY: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "float4": st.floats(width=32),
    "float8": st.floats(),
    "numeric": st.decimals(allow_nan=True, allow_infinity=True).filter(lambda value: not value.is_snan()),
    "text": texts,
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "date": st.dates(),
    "time": st.times(),
    "timetz": st.builds(lambda moment, zone: moment.replace(tzinfo=zone), st.times(), zones),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones),
    "interval": st.timedeltas(timedelta(days=-10_000_000), timedelta(days=10_000_000)),
    "json": json_values.map(lambda value: {"value": value}),
    "inet": st.ip_addresses(),
}


def as_its_type_has_it(value: Any, kind: str) -> Any:
    """What is the same before and after, for types that have fewer values than Python's.

    Postgres's numeric has one NaN. A float4 comes out as its shortest text, read as a double: 8589934592.0 comes back
    as 8589935000.0, another double and the same float4. So both are compared once they are rounded to float4.
    """
    if isinstance(value, list):
        return [as_its_type_has_it(one, kind) for one in value]
    if isinstance(value, Decimal) and value.is_nan():
        return Decimal("NaN")
    if kind == "float4" and isinstance(value, float):
        return struct.unpack("f", struct.pack("f", value))[0]
    return value


@pytest.mark.parametrize("kind", ANY)
def test_any_value_comes_out_as_it_went_in(kind: str, ask: Ask) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ANY[kind])
    def check(value: Any) -> None:
        found = ask(f"select $1::{kind}", value)
        assert equal(as_its_type_has_it(found, kind), as_its_type_has_it(value, kind)), found

    check()


def test_a_float4_comes_back_as_its_shortest_text(ask: Ask) -> None:
    assert ask("select $1::float4", 8589934592.0) == 8589935000.0


@pytest.mark.parametrize("kind", ANY)
def test_any_list_comes_out_as_it_went_in(kind: str, ask: Ask) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.none() | ANY[kind], max_size=5))
    def check(values: list[Any]) -> None:
        found = ask(f"select $1::{kind}[]", values)
        assert equal(as_its_type_has_it(found, kind), as_its_type_has_it(values, kind)), found

    check()


@pytest.mark.parametrize("style", ["postgres", "postgres_verbose", "sql_standard", "iso_8601"])
def test_an_interval_is_the_same_whatever_the_sessions_style(gateway: Gateway, database: Database, style: str) -> None:
    """In sql_standard a sign in front is that of all that follows without one of its own."""
    with neon(database.url, endpoint=gateway.sql).session() as session:
        session.execute(f"SET intervalstyle = {style}")
        for value in (timedelta(hours=-1), timedelta(days=-1, microseconds=1), timedelta(days=2, hours=-30)):
            seconds = session.val("SELECT extract(epoch FROM $1::interval)", value)
            assert seconds == Decimal(value // timedelta(microseconds=1)) / 1_000_000
