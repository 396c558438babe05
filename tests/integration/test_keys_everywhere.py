"""One API key by every way in: a request, a batch, a WebSocket, the TCP door. All of them come to the same caller."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import KeyRecord, hash_of, new_key
from sqlhttp_gateway.auth.credentials import ApiKey
from tests.support.cluster import Database
from tests.support.gateway import Gateway, free_port
from tests.support.own_lease import own_lease
from tests.support.wire_program import SocketPipe, WireProgram, connected

StartGateway = Callable[..., Gateway]
DOORS = ("request", "batch", "websocket", "tcp")
WHO = "SELECT current_user::text || '@' || current_database()::text AS who"


class Site(NamedTuple):
    """A gateway with both ports, and a key."""

    gateway: Gateway
    port: int
    database: Database
    key: ApiKey

    async def got(self, door: str, text: str = WHO, *, key: str | None = None, origin: str | None = None) -> str:
        """What a statement got: its one value, or the message of an error, from wherever that came."""
        shown = key or self.key.text
        try:
            if door in {"request", "batch"}:
                return await self._posted(door, text, shown, origin)
            async with self._tunnel(door, shown, origin) as program:
                answer = await program.log_in()
                if answer.status != "I":
                    return answer.error["M"]
                answer = await program.query(text)
                return answer.error["M"] if "E" in answer.tags else str(answer.value)
        except ConnectionClosed as closed:
            return str(closed)

    async def _posted(self, door: str, text: str, key: str, origin: str | None) -> str:
        query = {"query": text}
        headers = {"Authorization": f"Bearer {key}", "Neon-Array-Mode": "true"} | ({"Origin": origin} if origin else {})
        async with httpx.AsyncClient(trust_env=False) as http:
            body = query if door == "request" else {"queries": [query]}
            answer = (await http.post(self.gateway.sql, json=body, headers=headers)).json()
        if "message" in answer:
            return str(answer["message"])
        [[value]] = answer["rows"] if door == "request" else answer["results"][0]["rows"]
        return str(value)

    @asynccontextmanager
    async def _tunnel(self, door: str, key: str, origin: str | None) -> AsyncIterator[WireProgram]:
        who = self.database.as_role("postgres", key)
        if door == "websocket":
            async with connected(self.gateway, who, additional_headers={"Origin": origin} if origin else {}) as program:
                yield program
            return
        program = WireProgram(SocketPipe(*await asyncio.open_connection("127.0.0.1", self.port)), who)
        try:
            yield program
        finally:
            await program.close()


@pytest.fixture
def start(start_gateway: StartGateway, database: Database) -> Callable[..., Site]:
    """Starts a gateway with a key that may do this: `start(read_only=True)`."""

    def start(**bounds: Any) -> Site:
        key, port = new_key(), free_port()
        settings = {"hash": hash_of(key), "database": database.name, "role": "postgres", **bounds}
        return Site(start_gateway(keys={key.id: settings}, listen={"port": 0, "postgres": port}), port, database, key)

    return start


async def test_key_is_the_same_caller_by_every_way_in(start: Callable[..., Site]) -> None:
    site = start()
    for door in DOORS:
        assert await site.got(door) == f"postgres@{site.database.name}", door


async def test_wrong_key_is_refused_by_every_way_in_without_being_shown(start: Callable[..., Site]) -> None:
    site = start()
    text = site.key.text
    nearly = text[:-1] + ("a" if text[-1] != "a" else "b")
    for door in DOORS:
        for shown in (new_key().text, nearly):
            assert await site.got(door, key=shown) == "invalid API key", door


async def test_expired_key_is_refused_by_every_way_in(start: Callable[..., Site]) -> None:
    site = start(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert {await site.got(door) for door in DOORS} == {"the API key has expired"}


async def test_address_is_looked_at_by_every_way_in(start: Callable[..., Site]) -> None:
    near, far = start(addresses=["127.0.0.0/8"]), start(addresses=["10.0.0.0/8"])
    for door in DOORS:
        assert await near.got(door) == f"postgres@{near.database.name}"
        assert await far.got(door) == "this IP address 127.0.0.1 is not allowed to connect"


async def test_origin_is_looked_at_where_there_is_one(start: Callable[..., Site]) -> None:
    site = start(origins=["https://app.example"])
    for door in DOORS:
        other = await site.got(door, origin="https://evil.example" if door != "tcp" else None)
        assert other == "this origin is not allowed to connect", door
    for door in DOORS[:-1]:
        assert await site.got(door, origin="https://app.example") == f"postgres@{site.database.name}"


async def test_read_only_key_writes_nothing_by_any_way_in(start: Callable[..., Site]) -> None:
    site = start(read_only=True)
    site.database.psql("CREATE TABLE notes (id int)")
    for door in DOORS:
        got = await site.got(door, "INSERT INTO notes VALUES (1) RETURNING id")
        assert got == "cannot execute INSERT in a read-only transaction", door
        assert await site.got(door) == f"postgres@{site.database.name}"
    assert site.database.psql("SELECT count(*) FROM notes") == "0\n"


async def test_locked_key_runs_its_list_and_nothing_else_by_every_way_in(start: Callable[..., Site]) -> None:
    site = start(statements=[digest_of(WHO).hex()])
    for door in DOORS:
        assert await site.got(door) == f"postgres@{site.database.name}"
        assert await site.got(door, "SELECT 1") == "the statement is not on the list of this key", door


async def test_revoked_key_stops_by_every_way_in_within_the_refresh_time(
    start_gateway: StartGateway, database: Database
) -> None:
    key, port = new_key(), free_port()
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, KeyRecord(key.id, hash_of(key), "default", database.name, "postgres"))
    gateway = start_gateway(
        database_url=database.url,
        auth={"keys_table": True, "keys_refresh": 0.1, "proof_lifetime": 3600},
        listen={"port": 0, "postgres": port},
    )
    site = Site(gateway, port, database, key)
    for door in DOORS:
        assert await site.got(door) == f"postgres@{database.name}"
    async with own_lease(database) as lease:
        assert await key_table.revoke(lease, key.id)
    deadline = time.monotonic() + 10
    for door in DOORS:
        while (got := await site.got(door)) == f"postgres@{database.name}":
            assert time.monotonic() < deadline, f"the revoked key still works: {door}"
        assert got == "invalid API key", door
