import pytest

from sqlhttp_gateway.reads.verdict import NOTHING, UNKNOWN, Verdict, has_plan, makes_table


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        " -- why\n/* a */ (select 1) union select 2",
        "with x as (select 1) table x",
        "VALUES (1)",
        "insert into t values (1)",
        "; Merge into t",
        "/* /* */ CALL p() */ SELECT 1",
        "--\rSELECT 1",
    ],
)
def test_queries_and_changes_have_a_plan(text: str) -> None:
    assert has_plan(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "SHOW x", "CREATE TABLE t AS SELECT 1", "EXPLAIN SELECT 1", "DO $$$$", "selection", '"select"'),
        "/* /* */ SELECT */ CALL p()",
        "--\rCALL p(\n'SELECT 1')",
        "--\rCALL p((\nSELECT 1))",
    ],
)
def test_everything_else_has_none(text: str) -> None:
    assert not has_plan(text)


def test_select_into_is_not_taken_for_a_select() -> None:
    assert makes_table("SELECT 1 AS a INTO TEMP t")
    assert makes_table("with x as (select 1) select * into t from x")
    assert not makes_table("SELECT 'into', \"into\" FROM t")
    assert not makes_table("SELECT 1 -- into\n/* into */")
    assert not makes_table("INSERT INTO t SELECT 1")
    assert not makes_table("WITH x AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM x")


@pytest.mark.parametrize(
    "text",
    [
        r"SELECT E'\'' INTO t FROM s WHERE a = ''",
        "SELECT $$'$$ INTO t FROM s WHERE a = 'a'",
        "SELECT 1 /* ' */ INTO t FROM s WHERE a = 'a'",
        "/* /* */ INSERT */ SELECT 1 INTO/**/t",
    ],
)
def test_select_into_is_found_whatever_stands_beside_it(text: str) -> None:
    assert makes_table(text)


def test_unknown_is_never_kept_and_never_taken_to_be_harmless() -> None:
    assert UNKNOWN.refusal(frozenset({"time", "volatile"})) == "unknown"
    assert UNKNOWN.writes is None
    assert not UNKNOWN.is_reading


def test_what_the_program_allows_is_no_hindrance_and_everything_else_is() -> None:
    verdict = Verdict(NOTHING, NOTHING, (("time", "now"), ("volatile", "random")))
    assert verdict.refusal(frozenset()) == "time:now"
    assert verdict.refusal(frozenset({"time"})) == "volatile:random"
    assert verdict.refusal(frozenset({"time", "volatile"})) == ""
    assert verdict.is_reading, "a replica may answer it all the same"


def test_what_writes_or_locks_is_no_reading() -> None:
    assert not Verdict(NOTHING, frozenset({"public.t"}), (("writes", ""),)).is_reading
    assert not Verdict(NOTHING, NOTHING, (("locks", ""),)).is_reading
