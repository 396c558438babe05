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
    ],
)
def test_queries_and_changes_have_a_plan(text: str) -> None:
    assert has_plan(text)


@pytest.mark.parametrize(
    "text", ["", "SHOW x", "CREATE TABLE t AS SELECT 1", "EXPLAIN SELECT 1", "DO $$$$", "selection"]
)
def test_everything_else_has_none(text: str) -> None:
    assert not has_plan(text)


def test_select_into_is_not_taken_for_a_select() -> None:
    assert makes_table("SELECT 1 AS a INTO TEMP t")
    assert makes_table("with x as (select 1) select * into t from x")
    assert not makes_table("SELECT 'into', \"into\" FROM t")
    assert not makes_table("INSERT INTO t SELECT 1")
    assert not makes_table("WITH x AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM x")


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
