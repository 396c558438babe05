"""The gateway's endpoints in OpenAPI's words."""

from sqlhttp_gateway import errors
from sqlhttp_gateway.endpoints.openapi import description
from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.neon.headers import REQUEST_HEADERS
from tests.support.cluster import Database
from tests.support.running_app import running_app


async def test_document_is_served_to_everybody(database: Database) -> None:
    async with running_app(database) as app:
        call = await app.get("/openapi.json")
    assert (call.status, call.headers["content-type"]) == (200, "application/json")
    assert call.json() == description()


def test_every_status_of_an_error_is_described() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GatewayError)]
    described = description()["paths"]["/sql"]["post"]["responses"]
    assert {str(each.status) for each in classes} <= described.keys()


def test_every_header_of_a_request_is_described_but_those_that_have_a_place_of_their_own() -> None:
    named = {each["name"] for each in description()["paths"]["/sql"]["post"]["parameters"]}
    assert named == REQUEST_HEADERS.keys() - {"Authorization", "Content-Type"}
