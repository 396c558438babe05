"""Nobody ever sees what another program left behind: tagged work of many programs over few backends."""

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.wire_program import SYNC, WireProgram, bound, encode_parse, extended, frame, logged_in

PROGRAMS = 20
ROUNDS = 30


class Tagged:
    """A program that marks everything it touches, and looks at its marks."""

    def __init__(self, program: WireProgram, tag: str, chance: random.Random) -> None:
        self._program = program
        self._tag = tag
        self._chance = chance
        self._has_table = False
        self._prepared = 0
        self.done = 0

    async def run(self) -> None:
        await self._set()
        work = [self._set, self._read, self._transaction, self._failed, self._prepare, self._table, self._pipelined]
        for _ in range(ROUNDS):
            await self._chance.choice(work)()
            await self._check()
            self.done += 1

    async def _check(self) -> None:
        """Every mark is mine: settings, statements, temporary tables."""
        answer = await self._program.ask(
            "SELECT current_setting('my.tag', true), current_setting('application_name'),"
            " current_setting('search_path'),"
            " (SELECT string_agg(relname, ',') FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
            "  AND relnamespace = pg_my_temp_schema()),"
            " (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
        )
        table = f"t_{self._tag}" if self._has_table else None
        assert answer.rows == [[self._tag, self._tag, f"schema_{self._tag}", table, "0", "0"]], answer.messages

    async def _set(self) -> None:
        for text in (
            f"SET my.tag = '{self._tag}'",
            f"SELECT set_config('application_name', '{self._tag}', false)",
            f"SET search_path = schema_{self._tag}",
        ):
            assert not (await self._program.query(text)).error

    async def _read(self) -> None:
        assert (await self._program.ask("SELECT who FROM mine")).value == self._tag

    async def _transaction(self) -> None:
        await self._program.query("BEGIN")
        await self._program.query("SET LOCAL my.tag = 'local'")
        await self._program.ask("UPDATE mine SET n = n + 1")
        if self._chance.random() < 0.5:
            assert (await self._program.query("COMMIT")).commands == ["COMMIT"]
        else:
            assert (await self._program.query("ROLLBACK")).commands == ["ROLLBACK"]

    async def _failed(self) -> None:
        await self._program.query("BEGIN")
        await self._program.query("SET my.tag = 'never'")
        assert (await self._program.query("SELECT 1/0")).code == "22012"
        assert (await self._program.ask("SELECT 1")).code == "25P02"
        assert (await self._program.query("COMMIT")).commands == ["ROLLBACK"]

    async def _prepare(self) -> None:
        """The same name everywhere, and another text for everybody."""
        if not self._prepared:
            text = f"SELECT '{self._tag}' || $1 || (SELECT who FROM mine)"
            await self._program.send(encode_parse(b"s", text.encode()) + SYNC)
            assert (await self._program.answer()).tags == "1Z"
            self._prepared = 1
        await self._program.send(bound(self._prepared, name="s"))
        assert (await self._program.answer()).value == f"{self._tag}{self._prepared}{self._tag}"
        self._prepared += 1

    async def _table(self) -> None:
        if self._has_table:
            assert (await self._program.query(f"TABLE t_{self._tag}")).value == self._tag
            assert not (await self._program.query(f"DROP TABLE t_{self._tag}")).error
        else:
            text = f"CREATE TEMP TABLE t_{self._tag} AS SELECT '{self._tag}' AS who"
            assert not (await self._program.query(text)).error
        self._has_table = not self._has_table

    async def _pipelined(self) -> None:
        await self._program.send(extended("SELECT who FROM mine") + extended("SELECT 1/0") + extended("SELECT $1", 7))
        answers = [await self._program.answer() for _ in range(3)]
        assert [answer.code for answer in answers] == ["", "22012", ""]
        assert (answers[0].value, answers[2].value) == (self._tag, "7")


@pytest.mark.parametrize("linger", [0.05, 0.0])
async def test_nobody_sees_what_another_program_left(
    start_gateway: Callable[..., Gateway], database: Database, linger: float
) -> None:
    gateway = start_gateway(pool={"max_size": 12, "wait_timeout": 30}, tunnel={"max_pinned": 10, "linger": linger})
    tags = [f"p{number}" for number in range(PROGRAMS)]
    made = "CREATE SCHEMA schema_{0}; CREATE TABLE schema_{0}.mine AS SELECT '{0}' AS who, 0 AS n;"
    database.psql("".join(made.format(tag) for tag in tags))
    seed = random.randrange(1 << 30)

    async def live(number: int, tag: str) -> int:
        async with logged_in(gateway, database) as program:
            # Half of them never pin, so that there are always backends that go from hand to hand.
            one = Tagged(program, tag, random.Random(seed + number))
            if number % 2:
                one._table = one._read  # type: ignore[method-assign]
            await one.run()
            if number % 3 == 0:
                program.vanish()
            return one.done

    done = await asyncio.gather(*(live(number, tag) for number, tag in enumerate(tags)), return_exceptions=True)
    assert done == [ROUNDS] * PROGRAMS, f"seed {seed}"


@pytest.mark.parametrize("in_transaction", [True, False])
async def test_prepared_statement_reads_the_temporary_table_that_hides_another(
    start_gateway: Callable[..., Gateway], database: Database, in_transaction: bool
) -> None:
    """As in a session of its own, though Postgres tells nobody where a backend has had temporary tables before."""
    gateway = start_gateway(pool={"max_size": 1})
    database.psql("CREATE TABLE users AS SELECT 'permanent' AS which")
    async with logged_in(gateway, database) as former:
        await former.query("CREATE TEMP TABLE something (n int)")
        schema = await former.value("SELECT pg_my_temp_schema()")
    async with logged_in(gateway, database) as program:

        async def read() -> str | None:
            await program.send(bound(name="kept"))
            return (await program.answer()).value

        assert await program.value("SELECT pg_my_temp_schema()") == schema != "0"
        assert (await program.ask("SELECT which FROM users", name="kept")).value == "permanent"
        if in_transaction:
            await program.query("BEGIN")
        assert not (await program.query("CREATE TEMP TABLE users AS SELECT 'temporary' AS which")).error
        assert await read() == "temporary"
        if in_transaction:
            await program.query("COMMIT")
        assert await read() == "temporary"
        assert not (await program.query("DROP TABLE users")).error
        assert await read() == "permanent"
    async with logged_in(gateway, database) as program:
        assert (await program.ask("SELECT which FROM users", name="kept")).value == "permanent"


async def test_answers_to_what_a_refused_copy_has_left_unread_reach_nobody_else(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    """Postgres answers both of the Syncs, as a COPY to a view fails before it reads anything."""
    database.psql("CREATE VIEW one AS SELECT 1 AS n")
    gateway = start_gateway(pool={"max_size": 1}, tunnel={"linger": 0})
    copy = encode_parse(b"", b"COPY one (n) FROM STDIN") + bound() + frame(b"d", b"5\n") + frame(b"c", b"") + SYNC

    async def refused() -> None:
        async with logged_in(gateway, database) as program:
            for _ in range(150):
                await program.send(copy)
                assert (await program.answer()).code == "42809"
                assert (await program.answer()).tags == "Z"

    async def asking(first: int) -> None:
        async with logged_in(gateway, database) as program:
            for number in range(first, first + 300):
                assert (await program.ask("SELECT $1::int", number)).rows == [[str(number)]]

    await asyncio.gather(refused(), asking(1000), asking(2000))
