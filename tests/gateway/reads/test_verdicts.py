"""What a real Postgres says of statements."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.model import Batch, Options, Result, Statement, TransactionOptions
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.reads import verdicts
from sqlhttp_gateway.reads.verdict import NOTHING, UNKNOWN, Verdict
from sqlhttp_gateway.reads.verdicts import MAX_CHARACTERS, Run, Verdicts
from sqlhttp_gateway.wire.rows import rows_of
from tests.support.cluster import Cluster, Database
from tests.support.leases import leases

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, name text, at timestamptz DEFAULT now());
CREATE TABLE orders (id serial PRIMARY KEY, "user" int REFERENCES users ON DELETE CASCADE);
CREATE TABLE lines (id int, "order" int REFERENCES orders ON DELETE SET NULL);
CREATE TABLE watched (id int);
CREATE TABLE measured (at date, value int) PARTITION BY RANGE (at);
CREATE TABLE measured_2024 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE VIEW recent AS SELECT * FROM users WHERE at > now() - interval '1 day';
CREATE VIEW plain AS SELECT name FROM users;
CREATE SEQUENCE numbers;
CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END';
CREATE FUNCTION clocked() RETURNS timestamptz STABLE LANGUAGE plpgsql AS 'BEGIN RETURN deeper(); END';
CREATE FUNCTION deeper() RETURNS timestamptz STABLE LANGUAGE plpgsql AS 'BEGIN RETURN localtimestamp; END';
CREATE FUNCTION inlined() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT now()';
CREATE FUNCTION writer() RETURNS int VOLATILE LANGUAGE sql AS 'INSERT INTO watched VALUES (1) RETURNING id';
CREATE FUNCTION hidden_writer() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN writer(); END';
CREATE FUNCTION trigger_function() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER told AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION trigger_function();
CREATE FUNCTION odd(int, int) RETURNS boolean VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN random() > 0.5; END';
CREATE OPERATOR ~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = odd);
CREATE TABLE private (id int, owner text);
CREATE FUNCTION whose() RETURNS text VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END';
CREATE POLICY own ON private USING (owner = whose());
ALTER TABLE private ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION noted(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO users VALUES ($1); RETURN true; END';
CREATE DOMAIN noted_number AS int CHECK (noted(value));
CREATE TABLE checked (id int CHECK (noted(id)));
CREATE TABLE typed (id noted_number);
CREATE TABLE guarded (id int);
CREATE POLICY guard ON guarded FOR INSERT WITH CHECK (noted(id));
CREATE TABLE filled (id int, other int DEFAULT writer(), key uuid DEFAULT gen_random_uuid());
CREATE TABLE keyed (id int, key uuid DEFAULT gen_random_uuid());
CREATE VIEW levels AS VALUES (1, 'low'), (2, 'high');
"""


def running(lease: Lease) -> Run:
    options = Options(raw_text=True, array_mode=True, transaction=TransactionOptions(read_only=True))

    async def run(statements: Sequence[Statement]) -> list[Result]:
        return await execute(lease, Batch(tuple(statements)), options, Limits(0, 0))

    return run


class Judge:
    def __init__(self, database: Database, run: Run) -> None:
        self.database = database
        self.run = run
        self.now = 1
        self.verdicts = Verdicts(clock=lambda: self.now, lifetime=60)

    async def __call__(self, text: str, params: int = 0) -> Verdict:
        return await self.verdicts.ask(("default", "main", "app", "app", text), params, self.run)


@asynccontextmanager
async def judging(database: Database) -> AsyncIterator[Judge]:
    async with leases(database) as lending:
        lease = await lending.lease()
        try:
            yield Judge(database, running(lease))
        finally:
            lease.release()


@pytest.fixture
async def judge(database: Database) -> AsyncIterator[Judge]:
    database.psql(SCHEMA)
    async with judging(database) as judge:
        yield judge


async def remembered(texts: Sequence[str], *, seconds_apart: float = 0.0) -> list[str]:
    """Which of these are remembered in the end; each may make a table, for which Postgres need not be asked."""
    now = 1

    async def run(statements: Sequence[Statement]) -> list[Result]:
        raise AssertionError("Postgres was asked")

    verdicts = Verdicts(clock=lambda: now, lifetime=60)
    for text in texts:
        now += int(seconds_apart * 1e9)
        await verdicts.ask(("default", "main", "app", "app", text), 0, run)
    held = len(verdicts)
    found = [text for text in texts if verdicts.recall(("default", "main", "app", "app", text))]
    assert len(found) == held, "what is believed no more was held"
    return found


async def test_what_is_believed_no_more_takes_no_memory() -> None:
    texts = [f"SELECT {number} INTO made" for number in range(10)]
    assert await remembered(texts, seconds_apart=25) == texts[-3:]


async def test_answer_that_took_longer_than_it_is_believed_is_told_and_not_remembered() -> None:
    """A database that was paused meanwhile, for instance."""
    moments = iter(range(1, 10**15, 61 * 10**9))

    async def run(statements: Sequence[Statement]) -> list[Result]:
        raise AssertionError("Postgres was asked")

    verdicts = Verdicts(clock=lambda: next(moments), lifetime=60)
    assert await verdicts.ask(("default", "main", "app", "app", "SELECT 1 INTO made"), 0, run) is UNKNOWN
    assert len(verdicts) == 0


async def test_long_texts_make_room_for_one_another() -> None:
    texts = [f"SELECT {number} INTO made -- {'x' * 99_000}" for number in range(50)]
    found = await remembered(texts)
    assert found == texts[-len(found) :]
    assert MAX_CHARACTERS * 0.9 < sum(map(len, found)) <= MAX_CHARACTERS


async def test_names_of_many_relations_make_room_for_one_another_too(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short text may read a thousand partitions."""
    texts = [f"TABLE users LIMIT {number}" for number in range(10, 20)]
    relation = len("public.users")
    monkeypatch.setattr(verdicts, "MAX_CHARACTERS", 3 * (len(texts[0]) + relation))
    for text in texts:
        assert (await judge(text)).reads == {"public.users"}
    assert len(judge.verdicts) == 3


def may_be_kept(verdict: Verdict) -> bool:
    return not verdict.refusal(frozenset())


async def test_plain_read_names_its_relations(judge: Judge) -> None:
    verdict = await judge('SELECT u.name, count(*) FROM users u JOIN orders o ON o."user" = u.id GROUP BY 1')
    assert verdict == Verdict(frozenset({"public.users", "public.orders"}), NOTHING, ())
    assert verdict.is_reading


async def test_parameters_switch_nothing_off(judge: Judge) -> None:
    """With a value in its place, a parameter would be folded and half of the plan with it."""
    verdict = await judge("SELECT * FROM users WHERE $1::bool OR EXISTS (SELECT FROM orders WHERE id = $2)", 2)
    assert verdict.reads == frozenset({"public.users", "public.orders"})
    assert may_be_kept(verdict)


async def test_views_are_looked_through(judge: Judge) -> None:
    assert (await judge("SELECT * FROM plain")).reads == frozenset({"public.users"})
    assert (await judge("SELECT * FROM recent")).refusal(frozenset()) == "time:now"
    assert (await judge("SELECT * FROM recent")).refusal(frozenset({"time"})) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT * FROM users FOR UPDATE", "locks"),
        ("SELECT * FROM users FOR KEY SHARE SKIP LOCKED", "locks"),
        ("SELECT now()", "time:now"),
        ("SELECT * FROM users WHERE at < CURRENT_TIMESTAMP", "time"),
        ("SELECT inlined()", "time:now"),
        ("SELECT clocked()", "time:deeper"),
        ("SELECT random()", "volatile:random"),
        ("SELECT nextval('numbers')", "volatile:nextval"),
        ("SELECT * FROM users TABLESAMPLE bernoulli (50)", "volatile:tablesample"),
        ("SELECT writer()", "writes:writer"),
        ("SELECT hidden_writer()", "writes:writer"),
        ("SELECT * FROM users WHERE id ~~~ 1", "volatile:operator ~~~"),
        ("SELECT last_value FROM numbers", "relation:public.numbers"),
        ("SELECT pg_backend_pid()", "volatile:pg_backend_pid"),
        ("SELECT * FROM pg_stat_activity", "volatile:pg_stat_get_activity"),
        ("WITH gone AS (DELETE FROM users RETURNING id) SELECT * FROM gone", "writes"),
        ("INSERT INTO users VALUES (1)", "writes"),
        ("VALUES (now())", "time:now"),
        ("VALUES (CURRENT_DATE), ('2024-01-01')", "time"),
        ("SELECT * FROM (VALUES (writer()), (2)) v", "writes:writer"),
        ("SELECT name FROM users OFFSET floor(random() * 10) LIMIT 1", "volatile:random"),
        ("SELECT name FROM users LIMIT writer()", "writes:writer"),
        ("SELECT * FROM levels", "volatile:values"),
        ("SELECT 1 AS one INTO copied", "unknown"),
        ("SHOW search_path", "unknown"),
        ("EXPLAIN SELECT 1", "unknown"),
    ],
)
async def test_what_may_not_be_kept_says_why(judge: Judge, text: str, reason: str) -> None:
    assert (await judge(text)).refusal(frozenset()) == reason


async def test_policies_are_part_of_the_plan_of_those_they_bind(judge: Judge, postgres: Cluster) -> None:
    assert may_be_kept(await judge("SELECT * FROM private")), "nothing binds a superuser"
    judge.database.psql("CREATE ROLE bound_reader LOGIN PASSWORD 'secret'; GRANT SELECT ON private TO bound_reader")
    try:
        async with judging(judge.database.as_role("bound_reader", "secret")) as theirs:
            assert (await theirs("SELECT * FROM private")).refusal(frozenset()).endswith("whose")
    finally:
        judge.database.psql("DROP OWNED BY bound_reader; DROP ROLE bound_reader")


async def test_stable_function_of_a_user_can_read_anything(judge: Judge) -> None:
    verdict = await judge("SELECT counted()")
    assert may_be_kept(verdict)
    assert verdict.reads is None


async def test_catalogs_answers_are_read_however_large_they_are(judge: Judge, database: Database) -> None:
    """More than 64 KiB of rows are read while they arrive."""
    padding = "-- as long as many functions together, or as one name in many schemas\n" * 1000
    for name, body in (("long() RETURNS float", "random()"), ("long_stable() RETURNS int STABLE", "1")):
        database.psql(f"CREATE FUNCTION {name} LANGUAGE plpgsql AS $$ BEGIN {padding} RETURN {body}; END $$")
    verdict = await judge("SELECT long()")
    assert (verdict.writes, verdict.refusal(frozenset())) == (None, "writes:long")
    verdict = await judge("SELECT long_stable()")
    assert (verdict.reads, verdict.refusal(frozenset())) == (None, "")
    wide = ", ".join(f"name || '{number}' AS a_column_with_a_long_name_{number}" for number in range(1000))
    assert (await judge(f"SELECT {wide} FROM plain")).reads == {"public.users"}


async def test_partitions_are_named_and_those_left_out_make_it_anything(judge: Judge) -> None:
    verdict = await judge("SELECT * FROM measured WHERE value > 1")
    assert verdict.reads == frozenset({"public.measured", "public.measured_2024", "public.measured_2025"})
    assert (await judge("SELECT * FROM measured WHERE at = $1", 1)).reads is None


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("INSERT INTO users VALUES (1)", {"users"}),
        ('INSERT INTO orders ("user") VALUES (1)', {"orders"}),
        ("INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'", {"users", "orders", "lines"}),
        ("DELETE FROM users", {"users", "orders", "lines"}),
        ("WITH x AS (INSERT INTO lines VALUES (1)) SELECT 1", {"lines"}),
        ("INSERT INTO measured VALUES ('2024-02-02', 1)", {"measured", "measured_2024", "measured_2025"}),
        ("INSERT INTO measured_2024 VALUES ('2024-02-02', 1)", {"measured_2024"}),
        ("MERGE INTO lines l USING users u ON u.id = l.id WHEN MATCHED THEN DELETE", {"lines"}),
    ],
)
async def test_writes_are_followed_through_cascades_and_partitions(judge: Judge, text: str, writes: set[str]) -> None:
    found = (await judge(text)).writes
    assert found is not None
    assert {name.removeprefix("public.") for name in found} == writes


@pytest.mark.parametrize(
    "text", ["INSERT INTO watched VALUES (1)", "UPDATE users SET id = writer()", "SELECT writer()"]
)
async def test_where_triggers_or_functions_may_write_it_may_be_anything(judge: Judge, text: str) -> None:
    assert (await judge(text)).writes is None


@pytest.mark.parametrize("text", ["SELECT random()", "SELECT nextval('numbers')", "SELECT * FROM recent"])
async def test_reading_that_is_not_the_same_again_still_writes_nothing(judge: Judge, text: str) -> None:
    assert (await judge(text)).writes == NOTHING


async def test_verdict_is_remembered_until_it_is_old_or_something_changed(judge: Judge) -> None:
    key = ("default", "main", "app", "app", "SELECT name FROM users")
    assert judge.verdicts.recall(key) is None
    verdict = await judge(key[4])
    judge.now += 50 * 10**9
    assert judge.verdicts.recall(key) is verdict
    assert judge.verdicts.recall(key, changed=1) is None, "what changed in the same tick may not have been seen"
    verdict = await judge(key[4])
    judge.now += 61 * 10**9
    assert judge.verdicts.recall(key) is None


async def test_statement_that_postgres_refuses_is_refused_here(judge: Judge) -> None:
    with pytest.raises(PostgresError, match="nowhere"):
        await judge("SELECT * FROM nowhere")


async def test_text_without_a_plan_is_unknown(judge: Judge) -> None:
    assert await judge("CALL anything()") is UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO checked VALUES (1)",
        "INSERT INTO typed VALUES (1)",
        "INSERT INTO guarded VALUES (1)",
        "INSERT INTO filled VALUES (1, DEFAULT), (2, DEFAULT)",
        "INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = writer()::text",
        "MERGE INTO users USING (VALUES (1)) v ON id = 1 WHEN MATCHED THEN UPDATE SET name = writer()::text",
    ],
)
async def test_functions_that_a_write_runs_unseen_may_write_more(judge: Judge, text: str) -> None:
    assert (await judge(text)).writes is None


async def test_defaults_that_are_seen_or_harmless_leave_a_write_as_it_is(judge: Judge) -> None:
    for text in ("INSERT INTO keyed VALUES (1), (2)", "INSERT INTO keyed VALUES (1) ON CONFLICT DO NOTHING"):
        assert (await judge(text)).writes == frozenset({"public.keyed"})
    assert (await judge("INSERT INTO filled VALUES (1, 2)")).writes == frozenset({"public.filled"})


@pytest.mark.parametrize("text", ["SELECT pg_try_advisory_xact_lock(1)", "SELECT pg_advisory_lock(id) FROM users"])
async def test_advisory_lock_is_taken_where_all_others_take_it(judge: Judge, text: str) -> None:
    verdict = await judge(text)
    assert not verdict.is_reading
    assert verdict.writes == NOTHING
    assert verdict.refusal(frozenset({"volatile"})) == "locks"


async def test_questions_to_the_catalogs_are_not_compiled(judge: Judge) -> None:
    """Where Postgres is built with a compiler it takes half a second for each of them."""
    asking, compiling = judge.run, []

    async def run(statements: Sequence[Statement]) -> list[Result]:
        *results, last = await asking([*statements, Statement("SHOW jit")])
        if any("pg_catalog." in statement.text for statement in statements):
            compiling.extend(value for [value] in rows_of(last.rows))
        return results

    judge.run = run
    await judge("UPDATE users SET name = upper(name)")
    assert compiling == [b"off"] * len(compiling)
    assert len(compiling) >= 3
    [afterwards] = await asking([Statement("SHOW jit")])
    assert list(rows_of(afterwards.rows)) == [(b"on",)], "what else runs is left as it is"


async def test_roles_that_log_in_otherwise_have_verdicts_of_their_own(judge: Judge) -> None:
    await judge("SELECT name FROM users")
    assert judge.verdicts.recall(("default", "main", "app", "app", "SELECT name FROM users")) is not None
    assert judge.verdicts.recall(("default", "main", "other", "app", "SELECT name FROM users")) is None
