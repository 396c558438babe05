"""Servers to compare with, each an ASGI application on the gateway's own server set-up: `python -m tests.bench.peers`.

constant    Starlette answers the same bytes always: what HTTP costs before any database
plain       what one would write first: Starlette's request.json(), asyncpg's pool with its reset, JSONResponse
asyncpg     a bare ASGI callable; asyncpg decodes every column to text in C, orjson writes it, and the garbage collector
            is kept from looking at every row, which halves what many rows cost
"""

import argparse
import gc
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sqlhttp_gateway.serve import GatewayServer
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.sockets import bind_all
from tests.bench.direct import POOL_SIZE, decode_as_text


def constant(body: bytes) -> Starlette:
    """POST /sql answers `body`."""

    async def answer(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/sql", answer, methods=["POST"])])


class _AnyJSONResponse(JSONResponse):
    """JSON of whatever asyncpg returns: what json does not know is written with str()."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=str).encode()


def plain(database_url: str) -> Starlette:
    """POST /sql runs {"query", "params"}, or {"queries": […]} one after another in a transaction."""

    async def answer(request: Request) -> Response:
        pool = request.state.pool
        payload = await request.json()
        if "queries" not in payload:
            rows = await pool.fetch(payload["query"], *payload["params"])
            return _AnyJSONResponse({"rows": [dict(row) for row in rows]})
        results = []
        async with pool.acquire() as connection, connection.transaction():
            for each in payload["queries"]:
                rows = await connection.fetch(each["query"], *each["params"])
                results.append({"rows": [dict(row) for row in rows]})
        return _AnyJSONResponse({"results": results})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with asyncpg.create_pool(database_url, min_size=POOL_SIZE, max_size=POOL_SIZE, ssl=False) as pool:
            yield {"pool": pool}

    return Starlette(routes=[Route("/sql", answer, methods=["POST"])], lifespan=lifespan)


def asyncpg_text(database_url: str) -> ASGIApp:
    """The same with text results, as little as possible around asyncpg's C code."""
    pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal pool
        if scope["type"] == "lifespan":
            await receive()
            pool = await asyncpg.create_pool(
                database_url, min_size=POOL_SIZE, max_size=POOL_SIZE, ssl=False, init=decode_as_text, reset=_no_reset
            )
            gc.freeze()
            gc.set_threshold(50_000, 50, 100)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await pool.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        message = await receive()
        chunks = [message["body"]]
        while message.get("more_body"):
            message = await receive()
            chunks.append(message["body"])
        payload = orjson.loads(b"".join(chunks))
        assert pool is not None
        if "queries" in payload:
            results = []
            async with pool.acquire() as connection, connection.transaction():
                for each in payload["queries"]:
                    results.append({"rows": await connection.fetch(each["query"], *each["params"])})
            body = orjson.dumps({"results": results}, default=tuple)
        else:
            rows = await pool.fetch(payload["query"], *payload["params"])
            body = orjson.dumps({"rows": rows}, default=tuple)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def constant_of_environment() -> Starlette:
    """`constant` with the body from the file that BENCH_BODY names, for another ASGI server to serve."""
    return constant(Path(os.environ["BENCH_BODY"]).read_bytes())


async def _no_reset(connection: Any) -> None:
    """Leave the session as it is."""


def main() -> None:
    """Serve one of them until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["constant", "plain", "asyncpg"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", type=Path, help="file with what the constant peer answers")
    given = parser.parse_args()
    settings = load_settings(listen={"port": given.port})  # DATABASE_URL is in the environment
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with bind_all(settings) as [sockets]:
        raise SystemExit(_serve(given, GatewayServer(settings, sockets), url))


def _serve(given: argparse.Namespace, server: GatewayServer, url: str) -> int:
    # Loop, headers, backlog and the rest are exactly the gateway's.
    server.config.http = "httptools"
    match given.peer:
        case "constant":
            server.config.app = constant(given.body.read_bytes())
        case "plain":
            server.config.app = plain(url)
        case "asyncpg":
            server.config.app = asyncpg_text(url)
    return server.serve_until_told()


if __name__ == "__main__":
    main()
