"""The gateway's application on the test's own event loop, called without a server between."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlhttp_gateway.app import Gateway, create_app
from sqlhttp_gateway.assembly import Assembly
from sqlhttp_gateway.events import Answered, Event
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.settings import load_settings
from tests.support.asgi import Call, piece
from tests.support.cluster import Database


class RunningApp:
    """An application whose lifespan has begun, and what it told."""

    def __init__(self, app: Gateway, database: Database, events: list[Event], state: Mapping[str, Any]) -> None:
        self.app = app
        self.database = database
        self.events = events
        self._state = state

    async def send(self, call: Call) -> Call:
        """Answer a request made by hand."""
        call.scope["state"] = dict(self._state)
        return await call.of(self.app)

    async def post(self, body: object, *, url: str | None = None, **headers: str) -> Call:
        """POST /sql. Names of headers are written with underscores; bytes are sent as they are, all else as JSON."""
        given = {"neon-connection-string": url or self.database.url}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
        return await self.send(Call(piece(content), headers=pairs))

    async def get(self, path: str, *, method: str = "GET") -> Call:
        return await self.send(Call(piece(b""), method=method, path=path))

    async def hear_changes(self) -> None:
        """Until the gateway hears what is changed in its database.

        An answer that was fetched before is not kept, and on a busy machine that is longer than a request waits for it.
        """
        assert self.app._sql is not None
        consulting = self.app._sql._service._consulting
        assert consulting is not None
        listening = consulting.cached.on_fetch(("default", self.database.name))
        if listening is not None:
            async with asyncio.timeout(20):
                await listening

    @property
    def assembly(self) -> Assembly:
        """What the application consists of."""
        assert self.app._assembly is not None
        return self.app._assembly

    @property
    def pools(self) -> list[Pool]:
        """The pools that the application has made."""
        return self.assembly._registry.pools

    def answered(self) -> list[Answered]:
        """The requests that are over, in order."""
        return [event for event in self.events if isinstance(event, Answered)]


@asynccontextmanager
async def running_app(database: Database, *, is_heard: bool = True, **sections: Any) -> AsyncIterator[RunningApp]:
    """The application for the length of the block, with settings by section. Unheard it tells as in production."""
    settings = load_settings(**{"database_url": database.url, "drain": {"grace": 5}, **sections})
    events: list[Event] = []
    app = create_app(settings, observe=events.append if is_heard else None)
    async with app._router.lifespan_context(app._router) as state:
        yield RunningApp(app, database, events, state or {})
