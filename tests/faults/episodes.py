"""What callers do, one short story each, ends that nobody wants included.

Each tells the ledger what it was told. What an episode could not do, because there was no way through at that moment,
is no fault; what it saw of others is.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

from websockets.exceptions import WebSocketException

from sqlhttp import AsyncSql, Cache, NeonDbError, OutcomeUnknown
from sqlhttp_gateway.wire.frontend import EXECUTE, encode_bind, encode_parse, encode_query
from tests.faults.doors import Threaded, client, head, http, threaded, websocket
from tests.faults.doors import tcp as tcp_door
from tests.faults.grants import KEY, NAMES, NOTES, token
from tests.faults.world import CANARY, GUEST, World
from tests.support.wire_program import TIMEOUT, WireProgram, extended, frame

INSERT = "INSERT INTO written (tag, by) VALUES ($1, $2)"
_PROMISE = "INSERT INTO promised (tag, by) SELECT $1, $2 FROM generate_series(1, $3::int)"
"""More than one of a tag is refused, and not before COMMIT: the constraint is deferred."""
_DIVIDE = "INSERT INTO written (tag, by) SELECT $1, $2 FROM generate_series(1, 1 / $3::int)"
"""Fails for 0."""
_LOCK = "SELECT pg_advisory_lock($1::int), 1 / (SELECT $2::int)"
"""The lock stays although it fails for 0."""
_NOTES = "SELECT owner FROM notes"
_COUNTED = "SELECT n FROM counted WHERE tag = $1"
OTHERS = {
    "25P02": "a transaction that failed before",
    "25006": "a transaction or session that is read only",
    "42P05": "a prepared statement of that name",
    "26000": "no prepared statement of that name",
    "2D000": "a transaction that is over",
}
"""SQLSTATEs that a statement outside any transaction gets from what its connection was used for before."""
Outcome = str
"""A word for the table: ok, refused, unknown, left."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller: a world, luck of its own, and a tag that nobody else has."""

    world: World
    luck: Random
    tag: str

    @property
    def url(self) -> str:
        return self.world.database.url

    def look_at(self, error: NeonDbError) -> None:
        """Nothing in it may be secret, and nothing may come of what somebody else did on the same connection."""
        told = f"{error} {vars(error) | {'query': None}}"
        if CANARY in told:
            self.world.ledger.strange.append(f"a secret in an error: {told}")
        if error.code in OTHERS:
            self.world.ledger.strange.append(f"an error of somebody else's: {error.code} {error} for {self.tag}")

    def client(self) -> AsyncSql | Threaded:
        """Two in three send a request in one piece, each with the head of the one before: those go the quick way."""
        return client(self.world) if self.luck.random() < 1 / 3 else threaded(self.world)

    async def tell(self, tags: list[str], write: Awaitable[object]) -> Outcome:
        """Send a write and tell the ledger what came of it."""
        ledger = self.world.ledger
        ledger.expect(tags)
        try:
            await write
        except NeonDbError as error:
            self.look_at(error)
            if error.may_have_run or isinstance(error, OutcomeUnknown):
                return "unknown"
            ledger.refuse(tags)
            return "refused"
        ledger.acknowledge(tags)
        return "ok"


async def write(caller: Caller) -> Outcome:
    """One INSERT, which succeeds, or fails at once or at its end."""
    sql = caller.client()
    text, *more = caller.luck.choice(((INSERT,), (_PROMISE, 1), (_PROMISE, 2), (_DIVIDE, 1), (_DIVIDE, 0)))
    return await caller.tell([caller.tag], sql(str(text), caller.tag, CANARY, *more))


async def write_batch(caller: Caller) -> Outcome:
    """Three INSERTs together; every other one fails at its end."""
    sql = caller.client()
    tags = [f"{caller.tag}-{number}" for number in range(3)]
    # With RETURNING the gateway holds the COMMIT back until it has seen all rows.
    insert = f"{INSERT} RETURNING tag" if caller.luck.random() < 1 / 2 else INSERT
    queries = [sql.q(insert, tag, CANARY) for tag in tags]
    if caller.luck.random() < 1 / 2:
        last = f"{caller.tag}-last"
        failing = sql.q("SELECT 1/0"), sql.q(_DIVIDE, last, CANARY, 0), sql.q(_PROMISE, last, CANARY, 2)
        queries.append(caller.luck.choice(failing))
    return await caller.tell(tags, sql.transaction(queries))


async def write_once(caller: Caller) -> Outcome:
    """One INSERT under a key, sent until it is answered."""
    key = f"key-{caller.tag}"
    sql = client(caller.world).with_(idempotency_key=key)
    outcome = "unknown"
    caller.world.ledger.expect([caller.tag])
    for _ in range(20):
        try:
            await sql(INSERT, caller.tag, CANARY)
        except NeonDbError as error:
            caller.look_at(error)
            await asyncio.sleep(0.2 * caller.luck.random())
            continue
        caller.world.ledger.acknowledge([caller.tag])
        outcome = "ok"
        break
    return outcome


async def read_own(caller: Caller) -> Outcome:
    """A value that must come back, and traces of others that must not be there."""
    sql = caller.client()
    strange = caller.world.ledger.strange
    try:
        rows = await sql(
            "SELECT $1::text AS mine, current_setting('app.tag', true) AS tag,"
            " to_regclass('pg_temp.secret')::text AS temp,"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())::int AS locks",
            caller.tag,
        )
    except NeonDbError as error:
        caller.look_at(error)
        return "unknown" if error.may_have_run else "refused"
    if [row.get("mine") for row in rows] != [caller.tag]:
        strange.append(f"{caller.tag} got {rows}")
    elif rows[0]["tag"] or rows[0]["temp"] or rows[0]["locks"]:
        strange.append(f"{caller.tag} found {rows[0]}")
    return "ok"


async def leave_traces(caller: Caller) -> Outcome:
    """Settings, temporary tables and locks that must not outlive the request."""
    try:
        await caller.client()(caller.luck.choice(caller.world.ground.traces))
    except NeonDbError as error:
        caller.look_at(error)
        return "unknown" if error.may_have_run else "refused"
    return "ok"


async def lock(caller: Caller) -> Outcome:
    """A lock that must not outlive the request, whether that fails or not."""
    try:
        await caller.client()(_LOCK, caller.luck.randrange(10**9), caller.luck.randrange(2))
    except NeonDbError as error:
        caller.look_at(error)
        return "unknown" if error.may_have_run else "refused"
    return "ok"


async def hang_up(caller: Caller) -> Outcome:
    """A request of which some is sent, or whose answer is not waited for."""
    sleep = f" RETURNING pg_sleep({caller.luck.choice((0.2, 0.2, 5))})::text"
    body = json.dumps({"query": INSERT + sleep, "params": [caller.tag, CANARY]}).encode()
    caller.world.ledger.expect([caller.tag])
    whole = head(caller.world, len(body)) + body
    sent = whole[: caller.luck.randrange(1, len(whole) + 1)] if caller.luck.random() < 0.5 else whole
    with contextlib.suppress(OSError):
        async with http(caller.world) as (_, writer):
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.3 * caller.luck.random())
            if caller.luck.random() < 0.5:
                writer.close()
    if len(sent) < len(whole):
        caller.world.ledger.refuse([caller.tag])
    return "left"


async def read_slowly(caller: Caller) -> Outcome:
    """A large answer, read a little of."""
    body = json.dumps({"query": "SELECT repeat('x', 1000) FROM generate_series(1, 5000)"}).encode()
    with contextlib.suppress(OSError, TimeoutError):
        async with http(caller.world, limit=1024) as (reader, writer):
            writer.write(head(caller.world, len(body)) + body)
            for _ in range(caller.luck.randrange(3)):
                async with asyncio.timeout(2):
                    await reader.read(1)
    return "left"


async def tunnel(caller: Caller) -> Outcome:
    """A transaction over a WebSocket that commits, rolls back or is left at any step."""
    ledger = caller.world.ledger
    try:
        async with asyncio.timeout(TIMEOUT), websocket(caller.world) as program:
            return await _transaction(caller, program)
    except (OSError, EOFError, TimeoutError, WebSocketException):
        return "unknown" if caller.tag in ledger.unknown else "refused"


async def tcp(caller: Caller) -> Outcome:
    """The same by the TCP door."""
    ledger = caller.world.ledger
    try:
        async with asyncio.timeout(TIMEOUT), tcp_door(caller.world) as program:
            return await _transaction(caller, program)
    except (OSError, EOFError, TimeoutError):
        return "unknown" if caller.tag in ledger.unknown else "refused"


async def _transaction(caller: Caller, program: WireProgram) -> Outcome:
    ledger, luck = caller.world.ledger, caller.luck
    if luck.random() < 0.1:
        whole = program.startup() + program.password()
        await program.send(whole[: luck.randrange(1, len(whole))])
        program.vanish()
        return "left"
    greeting = await program.log_in({"application_name": caller.tag})
    if greeting.status != "I":
        return "refused"
    insert = encode_parse(b"w", INSERT.encode()) + encode_bind(b"w", (caller.tag.encode(), CANARY.encode())) + EXECUTE
    ledger.expect([caller.tag])
    step = luck.randrange(6)
    if step in (1, 3, 4) and (await program.query("BEGIN")).status != "T":
        ledger.refuse([caller.tag])
        return "refused"
    match step:
        case 0:  # left between messages
            await program.send(encode_query(b"BEGIN") + insert[: luck.randrange(1, len(insert))])
            program.vanish()
            ledger.refuse([caller.tag])
            return "left"
        case 1:  # left in a transaction
            await program.ask(INSERT, caller.tag, CANARY)
            program.vanish()
            ledger.refuse([caller.tag])
            return "left"
        case 2:  # left in the middle of COPY
            await program.send(encode_query(b"COPY written FROM STDIN"))
            await program.send(frame(b"d", f"{caller.tag}\tx\n".encode()))
            program.vanish()
            ledger.refuse([caller.tag])
            return "left"
        case 3:
            await program.ask(INSERT, caller.tag, CANARY)
            answer = await program.query("ROLLBACK")
            ledger.refuse([caller.tag])
        case 4:
            answer = await program.ask(INSERT, caller.tag, CANARY, name="w")
            if answer.status != "T":
                ledger.refuse([caller.tag])
                return "refused"
            answer = await program.query("COMMIT")
            if answer.commands == ["COMMIT"]:
                ledger.acknowledge([caller.tag])
        case _:
            await program.send(extended("SELECT current_setting('application_name'), $1::text", caller.tag))
            answer = await program.answer()
            if answer.status == "I" and not answer.error and answer.rows != [[caller.tag, caller.tag]]:
                ledger.strange.append(f"{caller.tag} was told {answer.rows}")
            ledger.refuse([caller.tag])
    await program.terminate()
    return "ok" if answer.status == "I" else "refused"


async def keyed(caller: Caller) -> Outcome:
    """One INSERT with an API key."""
    sql = _as(caller, "keyed", KEY.text)
    return await caller.tell([caller.tag], sql(INSERT, caller.tag, CANARY))


async def named(caller: Caller) -> Outcome:
    """Notes of whom a token names, alone, in a batch or over a WebSocket: all of that one's and nobody else's."""
    name = caller.luck.choice(NAMES)
    try:
        match caller.luck.randrange(3):
            case 0:
                rows = await _as(caller, "member", token(name))(_NOTES)
                found = [row["owner"] for row in rows]
            case 1:
                sql = _as(caller, "member", token(name))
                found = [row["owner"] for row in (await sql.transaction([sql.q("SELECT 1"), sql.q(_NOTES)]))[1]]
            case _:
                member = caller.world.database.as_role("member", token(name))
                async with asyncio.timeout(TIMEOUT), websocket(caller.world, member) as program:
                    await program.log_in({"application_name": caller.tag})
                    answer = await program.ask(_NOTES)
                    if answer.status != "I" or answer.error:
                        return "refused"
                    found = [owner for [owner] in answer.rows]
    except (NeonDbError, OSError, EOFError, TimeoutError, WebSocketException):
        return "refused"
    if found != [name] * NOTES:
        caller.world.ledger.strange.append(f"{caller.tag} of {name} was shown the notes of {found}")
    return "ok"


async def cached(caller: Caller) -> Outcome:
    """Reads by way of the cache: what was acknowledged is in them, and they are for those who may read."""
    sql = client(caller.world)
    read = sql.with_(cache=Cache(ttl=60))
    strange = caller.world.ledger.strange
    try:
        await sql("INSERT INTO counted VALUES ($1, 0)", caller.tag)
        for number in range(1, 4):
            await read(_COUNTED, caller.tag)
            await sql("UPDATE counted SET n = $1 WHERE tag = $2", number, caller.tag)
            for _ in range(2):
                [row] = await read(_COUNTED, caller.tag)
                if row["n"] != number:
                    strange.append(f"{caller.tag} wrote {number} and read {row['n']}")
        await read("SELECT a, b FROM shape")
    except NeonDbError as error:
        caller.look_at(error)
        return "unknown" if error.may_have_run else "refused"
    with contextlib.suppress(NeonDbError):
        rows = await _as(caller, "keyed", KEY.text).with_(cache=Cache(ttl=60))("SELECT a, b FROM shape")
        strange.append(f"{caller.tag} may not read shape, and was given {rows}")
    return "ok"


async def stay(caller: Caller) -> Outcome:
    """A tunnel that is kept for some 20 s and asks something now and then, by either door."""
    outcome = "refused"
    try:
        async with AsyncExitStack() as stack:
            if caller.luck.random() < 0.5:
                program = await stack.enter_async_context(websocket(caller.world))
            else:
                program = await stack.enter_async_context(tcp_door(caller.world))
            await program.log_in({"application_name": caller.tag})
            until = time.monotonic() + 40 * caller.luck.random()
            while time.monotonic() < until:
                await asyncio.sleep(2 * caller.luck.random())
                answer = await program.ask(
                    "SELECT current_setting('application_name'), $1::text",
                    caller.tag,
                    name=caller.luck.choice(("", "s")),
                )
                if not answer.status:
                    return outcome
                if not answer.error and answer.rows != [[caller.tag, caller.tag]]:
                    caller.world.ledger.strange.append(f"{caller.tag} was told {answer.rows}")
                outcome = "ok"
            await program.terminate()
    except (OSError, EOFError, TimeoutError, WebSocketException):
        return outcome
    return outcome


async def visit(caller: Caller) -> Outcome:
    """A role that is there at times: whoever is let in is who they say."""
    try:
        [row] = await _as(caller, GUEST, f"{CANARY}-guest")("SELECT current_user AS who")
    except NeonDbError as error:
        return "unknown" if error.may_have_run else "refused"
    if row["who"] != GUEST:
        caller.world.ledger.strange.append(f"{caller.tag} came as a guest and was {row['who']}")
    return "ok"


def _as(caller: Caller, role: str, password: str) -> AsyncSql:
    return client(caller.world, caller.world.database.as_role(role, password))


Episode = Callable[[Caller], Awaitable[Outcome]]
EPISODES: dict[str, tuple[int, Episode]] = {
    "write": (6, write),
    "batch": (4, write_batch),
    "once": (3, write_once),
    "read": (6, read_own),
    "traces": (3, leave_traces),
    "lock": (2, lock),
    "hang up": (4, hang_up),
    "slow reader": (1, read_slowly),
    "tunnel": (4, tunnel),
    "tcp": (3, tcp),
    "key": (2, keyed),
    "token": (3, named),
    "cache": (2, cached),
    "visit": (2, visit),
}
"""By name: how often among the others, and what happens."""
QUICK: dict[str, tuple[int, Episode]] = {name: EPISODES[name] for name in ("write", "batch", "read", "lock")}
"""Those of which most go the quick way. Once anybody has asked the cache, writes do so no more: they are noted."""
LONG: dict[str, tuple[int, Episode]] = {"stay": (1, stay)}
"""The same of those that take long."""
