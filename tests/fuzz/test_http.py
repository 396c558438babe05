"""Requests made from the gateway's own OpenAPI description, good and bad: no bug, and answers as they are described."""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sqlhttp_gateway.endpoints.openapi import description
from tests.support.cluster import Database
from tests.support.gateway import Gateway

SCHEMA = schemathesis.openapi.from_dict(description())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""Not whether good data is taken: only Postgres knows whether a statement is good. Nor whether bad data is refused, and
how: as with Neon, members that mean nothing are passed over, and a method that is not served gets 400."""
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))


@pytest.fixture
def role(database: Database) -> Iterator[Database]:
    """A role that may do nothing, since statements are made up."""
    database.psql("CREATE ROLE nobody LOGIN PASSWORD 'nothing'")
    yield database.as_role("nobody", "nothing")
    database.psql("DROP ROLE nobody")


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: schemathesis.Case, gateway: Gateway, role: Database) -> None:
    headers = {"Neon-Connection-String": role.url} if case.method == "POST" else {}
    if case.method not in ("POST", "GET"):
        return  # what the description does not name
    response = case.call(base_url=gateway.url, headers=headers)
    case.validate_response(response, checks=CHECKS)
