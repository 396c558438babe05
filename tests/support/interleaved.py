"""Two users who ask at the same time, by every way in, over one small pool; and what would be wrong with an answer.

Half of the callers are of a role whose connections are its own, and may send any SQL; the other half run listed
statements, as a role that an authenticator becomes. Requests, batches, WebSockets and the TCP door take turns. Nothing
here starts a gateway.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlhttp_gateway.auth.allowed import digest_of
from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer
from tests.support.wire_program import Answer, SocketPipe, WireProgram, extended, logged_in

NAMES = ("ann", "bob")
READ = "SELECT owner FROM notes ORDER BY id LIMIT 3"
READ_LISTED = "SELECT owner FROM todos ORDER BY id LIMIT 3"
COUNT_LISTED = "SELECT count(*) AS n FROM todos"
LISTED = (READ_LISTED, COUNT_LISTED)
SCHEMA = """
CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text DEFAULT auth.user_id());
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = (SELECT auth.user_id())) WITH CHECK (owner = (SELECT auth.user_id()));
INSERT INTO notes (owner) SELECT who FROM unnest('{{ann,bob}}'::text[]) who, generate_series(1, 50);
GRANT SELECT, INSERT ON notes TO {role};
GRANT {member} TO {login};
CREATE TABLE todos (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos TO {member}
    USING (owner = (SELECT current_setting('request.jwt.claims', true)::jsonb->>'sub'));
INSERT INTO todos (owner) SELECT who FROM unnest('{{ann,bob}}'::text[]) who, generate_series(1, 50);
GRANT SELECT ON todos TO {member}
"""
"""What has to be there, beside the functions of `sqlhttp auth install`."""

# Each is hostile in a way of its own, and says the other's name nowhere that an answer would repeat it.
_OTHER = "convert_from('\\x7b22737562223a22{hex}227d', 'UTF8')"
_HOSTILE = (
    ("SELECT 1/0",),
    ("COMMIT", READ),
    ("RESET ALL", READ),
    ("SET sqlhttp.claims = 'x'",),
    ("DO $$ BEGIN PERFORM set_config('sqlhttp.claims', " + _OTHER + ", false); END $$",),
    ("SET request.jwt.claims = 'x'", READ),
    ("CREATE TEMP TABLE IF NOT EXISTS mine (i int)", READ),
)
_HOSTILE_IN_TUNNELS = _HOSTILE[:-1]  # a temporary table would keep the backend from all others


@dataclass
class Site:
    """Where they ask, and as whom."""

    gateway: Gateway
    door: Database
    """The TCP door."""
    database: str
    role: str
    member: str
    issuer: Issuer
    counts: Counter[str] = field(default_factory=Counter)
    """Statements by the way they went."""

    def token(self, name: str, *, is_listed: bool) -> str:
        claims = {"sub": name, "iss": "web" if is_listed else "own", "exp": int(time.time()) + 3600}
        return self.issuer.token("one", claims)

    def headers(self, name: str, *, is_listed: bool) -> bytes:
        role = self.member if is_listed else self.role
        return (
            f"POST /sql HTTP/1.1\r\nHost: x\r\nNeon-Connection-String: postgres://{role}@db/{self.database}\r\n"
            f"Authorization: Bearer {self.token(name, is_listed=is_listed)}\r\nNeon-Array-Mode: true\r\n"
        ).encode()


def settings(role: str, member: str, login: str, jwks: Path) -> dict[str, Any]:
    """The sections of a gateway for them."""
    return {
        "issuers": {
            "own": {"jwks_file": str(jwks), "roles": [role], "issuer": "own"},
            "web": {
                "jwks_file": str(jwks),
                "roles": [member],
                "issuer": "web",
                "login": login,
                "statements": [digest_of(text).hex() for text in LISTED],
            },
        },
        "logins": {
            "own": {"role": role, "password": "secret"},
            "web": {"role": login, "password": "secret"},
        },
        "pool": {"max_size": 4, "wait_timeout": 60},
    }


async def interleave(site: Site, statements: int) -> Counter[str]:
    """So many statements at least; how many went which way.

    Raises:
        AssertionError: an answer held what is the other's, or lacked what is the asker's own.
    """
    work = iter(range(statements))
    lanes: list[Callable[[Iterator[int], str], Any]] = [
        lambda work, name: _requests(site, work, name, is_listed=False),
        lambda work, name: _requests(site, work, name, is_listed=False),
        lambda work, name: _requests(site, work, name, is_listed=True),
        lambda work, name: _tunnels(site, work, name, "websocket"),
        lambda work, name: _tunnels(site, work, name, "tcp"),
        lambda work, name: _listed_tunnels(site, work, name),
    ]
    async with asyncio.TaskGroup() as tasks:
        for lane, name in itertools.product(lanes, NAMES):
            tasks.create_task(lane(work, name))
    return site.counts


async def _requests(site: Site, work: Iterator[int], name: str, *, is_listed: bool) -> None:
    """A program with one connection, whose user changes from one request to the next."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    heads = {each: site.headers(each, is_listed=is_listed) for each in NAMES}
    others = itertools.cycle(NAMES if name == NAMES[0] else NAMES[::-1])
    for number in work:
        who = next(others)
        other = NAMES[1 - NAMES.index(who)]
        texts: tuple[str, ...]
        if is_listed:
            texts = (READ_LISTED,) if number % 2 else (COUNT_LISTED, READ_LISTED)
        elif number % 3 == 0:
            texts = (READ,)
        elif number % 3 == 1:
            texts = (READ, "SELECT 1", READ)
        else:
            texts = tuple(text.replace("{hex}", other.encode().hex()) for text in _HOSTILE[number % len(_HOSTILE)])
        queries = [{"query": text} for text in texts]
        body = json.dumps(queries[0] if len(queries) == 1 else {"queries": queries}).encode()
        writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (heads[who], len(body), body))
        answer = await _answer(reader)
        _judge(str(answer), who, other, texts)
        if texts[-1] in {READ, READ_LISTED} and texts[0] in {READ, *LISTED}:
            rows = answer["rows"] if len(texts) == 1 else answer["results"][-1]["rows"]
            assert rows == [[who]] * 3, (who, texts, answer)
        site.counts["request" if len(texts) == 1 else "batch"] += 1
    writer.close()
    await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> Any:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return json.loads(await reader.readexactly(length))


async def _tunnels(site: Site, work: Iterator[int], name: str, door: str) -> None:
    """A program that keeps a tunnel for a while, and sends every kind of transaction through it."""
    other = NAMES[1 - NAMES.index(name)]
    for _ in work:
        async with AsyncExitStack() as stack:
            program = await _tunnel(site, stack, name, door, is_listed=False)
            for number in itertools.islice(work, 60):
                match number % 6:
                    case 0:
                        answer = await program.query(READ)
                    case 1:
                        await program.send(extended(READ))
                        answer = await program.answer()
                    case 2:
                        await program.query("BEGIN")
                        answer = await program.query(READ)
                        await program.query("COMMIT")
                    case 3:
                        hostile = _HOSTILE_IN_TUNNELS[number % len(_HOSTILE_IN_TUNNELS)]
                        for text in hostile:
                            _judge(
                                str(await program.query(text.replace("{hex}", other.encode().hex()))),
                                name,
                                other,
                                hostile,
                            )
                        await program.query("ROLLBACK")
                        await program.query("RESET ALL")
                        answer = await program.query(READ)
                    case 4:
                        await program.query("BEGIN")
                        await program.query("SELECT 1/0")
                        await program.query("ROLLBACK")
                        answer = await program.query(READ)
                    case _:
                        answer = await program.query(f"SELECT 1; {READ}")
                _own(answer, name, other)
                site.counts[door] += 1


async def _listed_tunnels(site: Site, work: Iterator[int], name: str) -> None:
    """The same for who may run listed statements alone."""
    other = NAMES[1 - NAMES.index(name)]
    for _ in work:
        async with AsyncExitStack() as stack:
            program = await _tunnel(site, stack, name, "websocket", is_listed=True)
            for number in itertools.islice(work, 60):
                if number % 5 == 0:
                    refused = await program.query("RESET ROLE")
                    assert refused.code == "42501", refused
                await program.send(extended(READ_LISTED))
                _own(await program.answer(), name, other)
                site.counts["websocket, listed"] += 1


async def _tunnel(site: Site, stack: AsyncExitStack, name: str, door: str, *, is_listed: bool) -> WireProgram:
    role = site.member if is_listed else site.role
    database = Database("127.0.0.1", 0, site.database, role, site.token(name, is_listed=is_listed))
    if door == "websocket":
        return await stack.enter_async_context(logged_in(site.gateway, database))
    reader, writer = await asyncio.open_connection(site.door.host, site.door.port)
    program = WireProgram(SocketPipe(reader, writer), database)
    stack.push_async_callback(program.close)
    answer = await program.log_in()
    assert answer.status == "I", answer.error
    return program


def _own(answer: Answer, name: str, other: str) -> None:
    assert "E" not in answer.tags, answer.error
    assert answer.rows[-3:] == [[name]] * 3, answer
    assert not any(row == [other] for row in answer.rows)


def _judge(answer: str, name: str, other: str, texts: object) -> None:
    assert other not in answer, (name, texts, answer)
