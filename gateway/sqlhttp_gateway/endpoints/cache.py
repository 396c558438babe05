"""POST /cache/invalidate: ends answers of the result cache by their tags, by the relations they read, or all of them.

The request carries the headers that `/sql` takes, and is held to the same credentials. A role's own password speaks for
the whole database, a key or token for its own answers; `"everywhere": true`, for all databases of the target, is for
the gateway's own role and those in `admin.roles`.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.invalidation import Invalidations
from sqlhttp_gateway.endpoints.peers import Peers
from sqlhttp_gateway.endpoints.sql import refuse_doubles
from sqlhttp_gateway.errors import BadRequest, GatewayError, RequestTooLarge, RequestTooSlow, ScopeRefused
from sqlhttp_gateway.neon.caching import checked_tags
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.headers import (
    AUTHORIZATION,
    CONNECTION_STRING,
    CORS_PREFLIGHT,
    HOST,
    JSON_HEADERS,
    ORIGIN,
)
from sqlhttp_gateway.reply import error_reply, new_request_id
from sqlhttp_gateway.story import CLOSED_REQUEST

PATH = "/cache/invalidate"
_MAX_BODY = 65_536
_READ_TIMEOUT = 10.0
_MEMBERS = frozenset({"tags", "relations", "all", "everywhere"})
_HINT = 'The body is an object: {"tags": ["users"]}, {"relations": ["public.users"]} or {"all": true}.'


class Invalidate:
    """Who may end what."""

    def __init__(
        self,
        authenticator: Authenticator,
        invalidations: Invalidations | None,
        *,
        admins: Callable[[], Collection[tuple[str, str]]],
        peers: Peers,
    ) -> None:
        """`admins` answers (target, role) of those of now. Without `invalidations` there is no cache."""
        self._authenticator = authenticator
        self._invalidations = invalidations
        self._admins = admins
        self._peers = peers

    async def run(self, scope: Scope, body: bytes) -> None:
        """End what the request names; when this returns, nobody is given any of it.

        Raises:
            GatewayError: the credentials or the body are not good.
        """
        refuse_doubles(scope["headers"])
        headers: dict[bytes, bytes] = dict(scope["headers"])
        peer = self._peers.of_scope(scope)
        self._peers.admit(peer)
        caller = await self._caller(headers, peer)
        if caller.grant is not None:
            origin = headers.get(ORIGIN)
            caller.grant.admit(peer=peer, origin=None if origin is None else origin.decode("latin-1"))
        wanted = _wanted(body)
        if wanted.get("everywhere") and (
            caller.grant is not None or (caller.target, caller.pool.key.role) not in self._admins()
        ):
            raise ScopeRefused("only the gateway's own role, and those in admin.roles, may invalidate everywhere")
        if self._invalidations is None:
            return
        tenant = caller.grant.tenant if caller.grant is not None else None
        place = caller.target, caller.database
        if wanted.get("everywhere"):
            await self._invalidations.target(caller.target)
        elif wanted.get("all"):
            await self._invalidations.database(place, tenant=tenant)
        else:
            await self._invalidations.names(
                place, tenant=tenant, tags=wanted.get("tags", ()), relations=wanted.get("relations", ())
            )

    async def _caller(self, headers: dict[bytes, bytes], peer: str) -> Caller:
        connection_string, authorization = headers.get(CONNECTION_STRING, b""), headers.get(AUTHORIZATION)
        host = headers.get(HOST, b"") if self._authenticator.heeds_host else b""
        caller = self._authenticator.recall(connection_string, authorization, host)
        if caller is not None:
            return caller
        dsn = None
        if connection_string or authorization is None:
            dsn = dsn_from_header(connection_string or None)
        return await self._authenticator.authenticate(dsn, connection_string, authorization, host, peer=peer)


def _wanted(body: bytes) -> dict[str, Any]:
    try:
        wanted = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"could not parse the HTTP request body: {error}", hint=_HINT) from None
    if type(wanted) is not dict or not wanted or not wanted.keys() <= _MEMBERS:
        raise BadRequest("the body must name tags, relations, all or everywhere", hint=_HINT)
    for name in ("all", "everywhere"):
        if type(wanted.get(name, True)) is not bool:
            raise BadRequest(f'"{name}" must be a boolean', hint=_HINT)
    for name in ("tags", "relations"):
        value = wanted.get(name, [])
        if type(value) is not list or not all(type(each) is str for each in value):
            raise BadRequest(f'"{name}" must be a list of strings', hint=_HINT)
    wanted["tags"] = checked_tags(wanted.get("tags", ()), '"tags"')
    wanted["relations"] = [each if "." in each else f"public.{each}" for each in wanted.get("relations", ())]
    return wanted


async def invalidate(request: Request) -> Response:
    """204, or the error as `/sql` tells it."""
    asked: Invalidate = request.state.invalidate
    sent = {"neon-request-id": new_request_id()}
    if request.method == "OPTIONS":
        sent |= {name.decode(): value.decode().removesuffix(", QUERY") for name, value in CORS_PREFLIGHT}
        return Response(status_code=200, headers=sent)
    try:
        await asked.run(request.scope, await _body(request))
    except ClientDisconnect:
        return Response(status_code=CLOSED_REQUEST)  # the body never came, and there is nobody to be told
    except GatewayError as error:
        reply = error_reply(error, sent["neon-request-id"])
        sent |= {name.decode(): value.decode() for name, value in reply.headers}
        return Response(reply.body, status_code=reply.status, headers=sent)
    sent |= {name.decode(): value.decode() for name, value in JSON_HEADERS}
    return Response(status_code=204, headers=sent)


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_READ_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise RequestTooLarge(f"request is too large (max is {_MAX_BODY} bytes)")
    except TimeoutError:
        raise RequestTooSlow(f"the body did not arrive within {_READ_TIMEOUT:g} s") from None
    return body
