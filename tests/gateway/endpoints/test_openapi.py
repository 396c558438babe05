"""The gateway's endpoints in OpenAPI's words."""

import json
import re
from typing import Any

import pytest
from starlette.routing import Route, Router

from sqlhttp_gateway import errors
from sqlhttp_gateway.app import SQL_PATH, create_app
from sqlhttp_gateway.endpoints.openapi import description
from sqlhttp_gateway.errors import GatewayError, MethodNotAllowed
from sqlhttp_gateway.neon.headers import REQUEST_HEADERS
from sqlhttp_gateway.settings import load_settings
from tests.support.asgi import Call, piece
from tests.support.cluster import Database
from tests.support.running_app import running_app


async def test_document_is_served_to_everybody(database: Database) -> None:
    async with running_app(database) as app:
        call = await app.get("/openapi.json")
    assert (call.status, call.headers["content-type"]) == (200, "application/json")
    assert call.json() == description()


ADDRESSES = {
    "one address": {},
    "a port of the operator's own": {"admin": {"port": 9}},
    "a socket of the operator's own": {"admin": {"unix_socket": "/run/sqlhttp/admin.sock"}},
}


@pytest.mark.parametrize("name", ADDRESSES)
async def test_every_route_is_described_and_every_description_is_a_routes(name: str) -> None:
    app = create_app(load_settings(database_url="postgres://app:secret@db/main", **ADDRESSES[name]))
    public, admin = await described(app), await described(app.admin)
    assert public == served(app._router) | {SQL_PATH: {"post"}}
    assert admin == served(app._admin)
    whole = description()["paths"]
    assert public.keys() | admin.keys() == whole.keys()


async def described(app: Any) -> dict[str, set[str]]:
    """What the document that is served there names: paths with their methods."""
    call = await Call(piece(b""), method="GET", path="/openapi.json").of(app)
    return {path: set(operations) for path, operations in json.loads(call.body)["paths"].items()}


def served(router: Router) -> dict[str, set[str]]:
    """Paths with their methods, of those that say something of their own."""
    routes = [route for route in router.routes if isinstance(route, Route)]
    assert len(routes) == len(router.routes)
    return {route.path: {name.lower() for name in (route.methods or set()) - {"HEAD", "OPTIONS"}} for route in routes}


def test_whatever_is_referred_to_is_there() -> None:
    document = description()
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred == schemas.keys()


def test_every_status_of_an_error_is_described() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GatewayError)]
    described = description()["paths"]["/sql"]["post"]["responses"]
    elsewhere = str(MethodNotAllowed.status)  # /sql answers as Neon does what it does not know
    assert {str(each.status) for each in classes} - {elsewhere} <= described.keys()


def test_every_header_of_a_request_is_described_but_those_that_have_a_place_of_their_own() -> None:
    named = {each["name"] for each in description()["paths"]["/sql"]["post"]["parameters"]}
    assert named == REQUEST_HEADERS.keys() - {"Authorization", "Content-Type"}


async def test_every_status_of_an_invalidation_is_one_of_sqls_with_an_error_in_it() -> None:
    paths = description()["paths"]
    told = paths["/cache/invalidate"]["post"]["responses"]
    assert told.keys() - {"204"} <= paths["/sql"]["post"]["responses"].keys()
