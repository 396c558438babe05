"""The composition: which path is whose, what begins and ends with the lifespan, and what is refused before it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import EMFILE
from typing import Any

import pytest
from starlette.types import Message

from sqlhttp_gateway.app import Gateway, create_app
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Answered, Event, Reloaded
from sqlhttp_gateway.settings import Settings, load_settings

AWAY = "postgres://ada:hunter2@127.0.0.1:1/app"
"""Nobody is at this port."""
DEADLINE = 10.0  # seconds


class Running:
    """A gateway within its lifespan."""

    def __init__(self, gateway: Gateway, state: dict[str, Any]) -> None:
        self.gateway = gateway
        self._state = state

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes = b"", kind: str = "http", client: str = "127.0.0.1"
    ) -> list[Message]:
        """All that is sent in answer."""
        sent: list[Message] = []
        coming = [{"type": "http.request", "body": body}] if kind == "http" else [{"type": "websocket.connect"}]

        async def receive() -> Message:
            if not coming:
                await asyncio.Event().wait()
            return coming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "client": (client, 40000),
            "server": ("127.0.0.1", 4444),
            "scheme": "http",
            "state": self._state,
        }
        async with asyncio.timeout(DEADLINE):
            await asyncio.create_task(self.gateway(scope, receive, send))
        return sent

    async def get(self, path: str, **options: Any) -> tuple[int, dict[str, str], Any]:
        """Status, headers and the body as it reads."""
        start, *rest = await self.ask(path, **options)
        body = b"".join(message.get("body", b"") for message in rest)
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        is_json = headers.get("content-type") == "application/json" and body
        return start["status"], headers, json.loads(body) if is_json else body.decode()


@asynccontextmanager
async def running(observe: Any = None, **sections: Any) -> AsyncIterator[Running]:
    """A gateway for the length of the block, begun and ended as a server does it."""
    settings = load_settings(database_url=AWAY, watch={"interval": 0}, drain={"grace": 0}, **sections)
    gateway = create_app(settings, observe=observe)
    state: dict[str, Any] = {}
    told: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    life = asyncio.create_task(gateway({"type": "lifespan", "state": state}, told.get, said.put))
    try:
        async with asyncio.timeout(DEADLINE):
            told.put_nowait({"type": "lifespan.startup"})
            assert (await said.get())["type"] == "lifespan.startup.complete"
        yield Running(gateway, state)
    finally:
        async with asyncio.timeout(DEADLINE):
            told.put_nowait({"type": "lifespan.shutdown"})
            assert (await said.get())["type"] == "lifespan.shutdown.complete"
            await life


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/status"])
async def test_each_path_is_answered_by_its_endpoint(path: str) -> None:
    async with running() as app:
        assert (await app.get(path))[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/sql"),
        ("PUT", "/sql"),
        ("POST", "/sql/"),
        ("POST", "/SQL"),
        ("POST", "/sq"),
        ("GET", "/livez/"),
    ],
)
async def test_whatever_else_is_told_as_neon_tells_it(method: str, path: str) -> None:
    async with running() as app:
        status, headers, body = await app.get(path, method=method)
    assert (status, body) == (400, "query is not supported")
    assert len(headers["neon-request-id"]) == 36
    assert "location" not in headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/metrics", "GET, HEAD"),
        ("PUT", "/readyz", "GET, HEAD"),
        ("GET", "/cache/invalidate", "OPTIONS, POST"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_method_that_a_path_does_not_know_is_an_error_like_all_others(
    method: str, path: str, allowed: str
) -> None:
    async with running() as app:
        status, headers, body = await app.get(path, method=method)
    assert (status, headers["allow"], headers["sqlhttp-ran"]) == (405, allowed, "no")
    assert body["message"] == f"{path} takes {allowed} and nothing else"
    assert len(headers["neon-request-id"]) == 36


async def test_sql_goes_straight_to_its_endpoint_and_is_observed() -> None:
    events: list[Event] = []
    async with running(events.append) as app:
        status, headers, body = await app.get("/sql", method="POST", body=b'{"query":"SELECT 1"}')
        assert (status, body["code"]) == (400, "08001")
        [told] = events
        assert isinstance(told, Answered)
        assert told.request_id == headers["neon-request-id"]
        assert "sqlhttp_requests_total{" in (await app.get("/metrics"))[2]


async def test_websocket_on_no_path_of_a_tunnel_is_closed() -> None:
    async with running() as app:
        [closed] = await app.ask("/elsewhere", kind="websocket")
    assert closed["type"] == "websocket.close"


@pytest.mark.parametrize("path", ["/metrics", "/status"])
async def test_numbers_are_for_the_networks_that_are_allowed(path: str) -> None:
    async with running() as app:
        assert (await app.get(path, client="192.0.2.1"))[0] == 403
        assert (await app.get("/livez", client="192.0.2.1"))[0] == 200
    async with running(admin={"allow_from": ["192.0.2.0/24"]}) as app:
        assert (await app.get(path, client="192.0.2.1"))[0] == 200


async def test_drain_is_told_at_the_probe_and_what_comes_is_still_answered() -> None:
    async with running() as app:
        app.gateway.begin_drain()
        assert (await app.get("/readyz"))[::2] == (503, {"status": "draining"})
        assert (await app.get("/livez"))[0] == 200
        assert (await app.get("/sql", method="POST", body=b"{}"))[0] == 400


async def test_nothing_runs_on_when_the_lifespan_is_over() -> None:
    before = asyncio.all_tasks()
    async with running() as app:
        await app.get("/readyz")
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


async def test_one_application_may_live_twice() -> None:
    """As a server with a reload has it; the second life has owners of its own."""
    for _ in range(2):
        async with running() as app:
            assert (await app.get("/livez"))[0] == 200


@pytest.mark.parametrize("fault", [OSError(EMFILE, "Too many open files"), RuntimeError("can't start new thread")])
async def test_reload_for_which_nothing_is_to_be_had_leaves_all_as_it_was(fault: Exception) -> None:
    def read() -> Settings:
        raise fault

    events: list[Event] = []
    async with running(observe=events.append) as app:
        settings = app.gateway.settings
        await app.gateway.reload(read)
        assert app.gateway.settings is settings
        assert [event for event in events if isinstance(event, Reloaded)] == [Reloaded(faults=(str(fault),))]


async def test_drain_before_the_lifespan_does_no_harm() -> None:
    gateway = create_app(load_settings(database_url=AWAY, watch={"interval": 0}, drain={"grace": 0}))
    gateway.begin_drain()
    async with gateway._router.lifespan_context(gateway._router):
        assert gateway._assembly is not None
        assert not gateway._assembly.readiness.is_draining


@pytest.mark.parametrize("url", [f"{AWAY}?no_such_parameter=1", "postgres://"])
def test_connection_string_that_cannot_be_used_is_refused_before_anything_runs(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        create_app(load_settings(database_url=url))
    assert "hunter2" not in str(refused.value)
