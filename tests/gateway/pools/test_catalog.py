"""Which types are arrays, and of what: asked once for each."""

import asyncio
from collections.abc import Iterable, Mapping

import pytest

from sqlhttp_gateway.model import ArrayType
from sqlhttp_gateway.pools import catalog
from sqlhttp_gateway.pools.catalog import learn_array_types
from tests.support.cluster import Database
from tests.support.leases import Leases, leases

TYPES = """DO $$ BEGIN
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN age AS int CHECK (value >= 0);
    CREATE DOMAIN old_age AS age CHECK (value >= 65);
    CREATE DOMAIN ages AS int[];
    CREATE DOMAIN moods AS mood[];
    CREATE TABLE things (i int);
END $$"""


async def oid(lending: Leases, name: str) -> int:
    return int(await lending.value("SELECT to_regtype($1)::oid", name) or 0)


async def learnt(lending: Leases, oids: Iterable[int]) -> Mapping[int, ArrayType]:
    lease = await lending.lease()
    try:
        return await learn_array_types(lease, oids)
    finally:
        lease.release()


@pytest.mark.parametrize(
    ("name", "element", "delimiter"),
    [
        ("mood[]", "mood", ","),
        ("pair[]", "pair", ","),
        ("age[]", "int4", ","),  # elements are typed as what the domain stands on
        ("old_age[]", "int4", ","),
        ("things[]", "things", ","),
        ("box[]", "box", ";"),
        ("int4range[]", "int4range", ","),
    ],
)
async def test_arrays_are_known_with_their_elements(
    database: Database, name: str, element: str, delimiter: str
) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run(TYPES)
        array = await oid(lending, name)
        assert await learnt(lending, [array]) == {array: ArrayType(await oid(lending, element), delimiter)}


async def test_array_of_a_domain_over_an_array_is_known_with_that_array(database: Database) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run(TYPES)
        outer, inner, mood = await oid(lending, "moods[]"), await oid(lending, "mood[]"), await oid(lending, "mood")
        for _ in range(2):
            assert await learnt(lending, [outer]) == {outer: ArrayType(inner, ","), inner: ArrayType(mood, ",")}


async def test_two_at_once_both_know(database: Database) -> None:
    """The second must not take for a plain type what the first has only asked for."""
    async with leases(database, pool={"max_size": 2}) as lending:
        await lending.run(TYPES)
        array = await oid(lending, "mood[]")
        first, second = await asyncio.gather(learnt(lending, [array]), learnt(lending, [array]))
        assert array in first
        assert array in second


async def test_what_only_looks_like_an_array_is_none(database: Database) -> None:
    """They have elements, too, but print otherwise."""
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run(TYPES)
        names = ("point", "name", "int2vector", "oidvector", "box", "mood", "pair", "age", "things", "text")
        assert await learnt(lending, [await oid(lending, name) for name in names]) == {}
        assert await learnt(lending, [4_000_000_000]) == {}


async def test_each_type_is_asked_for_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run(TYPES)
        array, plain = await oid(lending, "mood[]"), await oid(lending, "mood")
        first = await learnt(lending, [array, plain])

        async def never(*_: object) -> list[tuple[bytes | None, ...]]:
            raise AssertionError("it was asked again")

        monkeypatch.setattr(catalog, "ask", never)
        assert await learnt(lending, [plain, array]) == first


async def test_question_that_failed_is_asked_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with leases(database, pool={"max_size": 1}) as lending:
        await lending.run(TYPES)
        array = await oid(lending, "mood[]")

        async def fails(*_: object) -> list[tuple[bytes | None, ...]]:
            raise ValueError("no answer")

        with monkeypatch.context() as patched:
            patched.setattr(catalog, "ask", fails)
            with pytest.raises(ValueError, match="no answer"):
                await learnt(lending, [array])
        assert array in await learnt(lending, [array])


async def test_memory_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_MAX_REMEMBERED", 3)
    async with leases(database, pool={"max_size": 1}) as lending:
        for number in range(20):
            await learnt(lending, [1_000_000 + number])
        assert len(lending.pool.array_types) <= 5
        await lending.run(TYPES)
        arrays = [await oid(lending, name) for name in ("mood[]", "pair[]", "things[]", "age[]", "box[]")]
        assert set(await learnt(lending, arrays)) == set(arrays)
