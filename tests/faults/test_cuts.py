"""What is told of a write is so, wherever in its exchange the connection to Postgres ends.

Each way that a write can take is gone once for every message of it, of which the connection is then reset, or at which
Postgres ends its process and says so itself. Told that it has failed, the write is not there; told that it is done, it
is; and it is never there twice.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import asyncpg
import orjson
import pytest

from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Database
from tests.support.cutting_proxy import Cut, CuttingProxy, How, cutting_proxy
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.program import RAW
from tests.support.wire_program import Answer, WireProgram, extended, logged_in

INSERT = "INSERT INTO seen VALUES ($1)"
_TIMEOUT = 60.0
_UNSURE = ("08", "40003", "57P01", "57P02", "57P04")
"""SQLSTATEs that say of themselves that nobody knows."""
_ENOUGH = 3
"""So many writes that were told to be done, behind one of which nobody knew, are the end of what matters."""
_MOST = 120
"""Messages of the longest way, by far."""


@dataclass(frozen=True)
class Place:
    """Where a write goes, and where it is looked for."""

    gateway: Gateway
    database: Database
    proxy: CuttingProxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    direct: asyncpg.Connection

    async def post(self, body: object, **headers: str) -> str:
        """What is told of it: yes, no or maybe. In one write, as the client does."""
        given = {"Host": "x", "Neon-Connection-String": self.database.url, **headers}
        content = orjson.dumps(body)
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"POST /sql HTTP/1.1\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        told = dict(line.lower().split(b": ", 1) for line in answer.splitlines()[1:-1])
        await self.reader.readexactly(int(told[b"content-length"]))
        return "yes" if answer.split()[1] == b"200" else told[b"sqlhttp-ran"].decode()

    async def warm(self, body: object, **headers: str) -> None:
        """Until it is answered well, so that there is a connection that knows it."""
        async with asyncio.timeout(_TIMEOUT):
            while await self.post(body, **headers) != "yes":
                pass

    async def count(self, tag: str) -> int:
        count: int = await self.direct.fetchval("SELECT count(*) FROM seen WHERE v = $1", tag)
        return count


@pytest.fixture
async def place(database: Database) -> AsyncIterator[Place]:
    database.psql("CREATE TABLE seen (v text)")
    settings = {"pool": {"max_size": 1}, "watch": {"interval": 0}, "tunnel": {"linger": 0}, "breaker": {"failures": 0}}
    with cutting_proxy(database) as proxy:
        through = replace(database, host="127.0.0.1", port=proxy.port)
        with gateway_in_thread(through.url, settings) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            direct = await database.connect()
            yield Place(gateway, through, proxy, reader, writer, direct)
            await direct.close()
            writer.close()
            await writer.wait_closed()


# ── the ways that a write can take ───────────────────────────────────────────────────────────────────────────────────

Arm = Callable[[], object]
Way = Callable[[Place, str, Arm], Awaitable[str]]


def one(tag: str) -> dict[str, object]:
    return {"query": INSERT, "params": [tag]}


def several(tag: str, text: str = INSERT) -> dict[str, object]:
    return {"queries": [{"query": text, "params": [each]} for each in ("before", tag, "behind")]}


def posted(make: Callable[[str], dict[str, object]], *, times: int, **headers: str) -> Way:
    """A request whose text the connection has run so many times before."""

    async def way(place: Place, tag: str, arm: Arm) -> str:
        await place.warm({"query": "SELECT 1"}, **RAW)
        for _ in range(times):
            await place.warm(make("warm"), **headers)
        arm()
        return await place.post(make(tag), **headers)

    return way


async def keyed(place: Place, tag: str, arm: Arm) -> str:
    """Told that nobody knows, the same request finds out."""
    await place.warm({"query": "SELECT 1"}, **RAW)
    arm()
    async with asyncio.timeout(_TIMEOUT):
        while (told := await place.post(one(tag), **RAW, **{"Idempotency-Key": f'"{tag}"'})) != "yes":
            if told == "no":
                assert await place.count(tag) == 0
    return told


@asynccontextmanager
async def tunnel(place: Place) -> AsyncIterator[WireProgram]:
    await place.warm({"query": "SELECT 1"}, **RAW)
    async with logged_in(place.gateway, place.database) as program:
        yield program


def told_by(answer: Answer, done: str) -> str:
    if done in answer.commands and answer.status == "I":
        return "yes"
    if not answer.error or answer.error["S"] == "FATAL":
        return "maybe" if answer.code.startswith(_UNSURE) or not answer.code else "no"
    return "no" if answer.status == "I" else "maybe"


async def simple(place: Place, tag: str, arm: Arm) -> str:
    async with tunnel(place) as program:
        arm()
        return told_by(await program.query(f"INSERT INTO seen VALUES ('{tag}')"), "INSERT 0 1")


async def asked(place: Place, tag: str, arm: Arm) -> str:
    async with tunnel(place) as program:
        await program.ask(INSERT, "warm", name="w")
        arm()
        return told_by(await program.ask(INSERT, tag), "INSERT 0 1")


async def in_transaction(place: Place, tag: str, arm: Arm) -> str:
    async with tunnel(place) as program:
        arm()
        if (await program.query(f"BEGIN -- {tag}")).status != "T" or (await program.ask(INSERT, tag)).status != "T":
            return "no"
        return told_by(await program.query("COMMIT"), "COMMIT")


async def in_one_write(place: Place, tag: str, arm: Arm) -> str:
    async with tunnel(place) as program:
        arm()
        await program.send(encode_query(b"BEGIN") + extended(INSERT, tag) + encode_query(b"COMMIT"))
        answers = [await program.answer()]
        while answers[-1].status and len(answers) < 3:
            answers.append(await program.answer())
        return told_by(answers[-1], "COMMIT") if len(answers) == 3 else told_by(answers[-1], "nothing")


async def handed_over(place: Place, tag: str, arm: Arm) -> str:
    """The backend comes from another tunnel, with its scrub ahead of the write."""
    async with AsyncExitStack() as stack:
        await place.warm({"query": "SELECT 1"}, **RAW)
        holder, program = [await stack.enter_async_context(logged_in(place.gateway, place.database)) for _ in range(2)]
        await holder.query("BEGIN")
        await program.send(extended(INSERT, tag))
        arm()
        _, answer = await asyncio.gather(holder.query("COMMIT"), program.answer())
        return told_by(answer, "INSERT 0 1")


WAYS: dict[str, Way] = {
    "a statement, new": posted(one, times=0, **RAW),
    "a statement, foreseen": posted(one, times=3, **RAW),
    "a statement, typed": posted(one, times=1),
    "a batch, new": posted(several, times=0, **RAW),
    "a batch, foreseen": posted(several, times=3, **RAW),
    "a batch that holds its COMMIT back": posted(lambda tag: several(tag, f"{INSERT} RETURNING v"), times=1, **RAW),
    "with a key": keyed,
    "a tunnel, simple": simple,
    "a tunnel, extended": asked,
    "a tunnel, in a transaction": in_transaction,
    "a tunnel, a transaction in one write": in_one_write,
    "a tunnel, handed over": handed_over,
}
SCRUBBED_INSIDE = {"a statement, foreseen", "a batch, foreseen", "a tunnel, handed over"}
"""Those whose scrub is before the answer's end, so that each of its messages counts."""
KEYED = {"with a key"}
STEPS = {"with a key": 3, "a batch, new": 2, "a batch that holds its COMMIT back": 2}
"""Of these ways, which are like others, not every message is tried."""


@pytest.mark.parametrize("name", WAYS)
async def test_what_is_told_of_a_write_is_so_wherever_its_connection_ends(name: str, place: Place) -> None:
    told_of: dict[How, list[str]] = {how: [] for how in How}
    for how in How:
        for after in itertools.count(step=STEPS.get(name, 1)):
            assert after < _MOST, "it has no end"
            tag = f"{how} {after}"
            cut = Cut(how, after, tag.encode())
            async with asyncio.timeout(_TIMEOUT):
                told = await WAYS[name](place, tag, partial(place.proxy.arm, cut))
            place.proxy.cut = None
            there = await place.count(tag)
            assert (told, there) in {("yes", 1), ("no", 0), ("maybe", 0), ("maybe", 1)}, f"{tag}: {told}, {there} there"
            told_of[how].append(told)
            if not cut.happened:
                assert told == "yes", f"{tag}: nothing happened, and {told} was told"
                break
            if told_of[how][-_ENOUGH - 1 :] == ["maybe", *["yes"] * _ENOUGH] and name not in SCRUBBED_INSIDE:
                break  # what follows is a scrub of its own, behind the answer
    assert all(len(told) > 1 for told in told_of.values()), told_of
    assert name in KEYED or {"maybe"} <= set(told_of[How.ANSWER_LOST]), "the answer was lost, and it was told"
