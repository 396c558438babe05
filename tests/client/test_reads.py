"""A statement counts as reading only when nothing in it can do anything else."""

import pytest

from sqlhttp._reads import only_reads


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "  SELECT * FROM users WHERE id = $1;",
        "-- a comment that says insert\nselect 'delete', \"update\" from t",
        "(select 1) union all (select 2)",
        "with recent as (select * from t where at > now() - interval '1 day') select count(*) from recent",
        "select coalesce(max(x), 0), count(*) filter (where y), sum(z) over (partition by w) from t group by (a, b)",
        "select x::numeric(10, 2), cast(y as varchar(5)) from t where z in (1, 2) and a = any($1)",
        "select pg_catalog.lower(name) from t",
        "values (1), (2)",
        "table t",
        "show server_version",
        "explain select 1",
        "select (a + (b)) from t",
        "select array[(1)], row(1, 2)",
    ],
)
def test_what_only_reads(text: str) -> None:
    assert only_reads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "insert into t values (1)",
        "update t set x = 1",
        "delete from t",
        "with gone as (delete from t returning *) select * from gone",
        "select * into copy_of_t from t",
        "select * from t for update",
        "select nextval('s')",
        "select pg_advisory_lock(1)",
        "select set_config('a', 'b', false)",
        "select add_order($1)",
        "select mine.lower(x) from t",
        'select "lower"(x) from t',
        "select place_order(x) from t",
        "select place_order€(x) from t",
        "select €(x) from t",
        "select ran\N{KELVIN SIGN}(x) from t",  # lower() of which is `rank`
        "select e'a'\n'\\'', place_order(1) --'",
        "select $a€$ ' $a€$, place_order(1) -- '",
        "select 1into copy_of_t from t",
        "explain analyze delete from t",
        "explain (analyze) select add_order(1)",
        "call p()",
        "do $$ begin end $$",
        "create table t ()",
        "begin",
        "notify c",
        "copy t from stdin",
        "vacuum",
        "set x = 1",
        "(delete from t)",
        "lock t",
    ],
)
def test_what_may_do_more(text: str) -> None:
    assert not only_reads(text)
