"""GET /openapi.json: the gateway's HTTP endpoints in the words of OpenAPI 3.1, for tools that read those.

What a header means is told once, in `neon.headers`; here it is only put where OpenAPI wants it. QUERY, which does what
POST does, is left out, since OpenAPI knows that method only from 3.2 on.
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sqlhttp_gateway.neon.headers import REQUEST_HEADERS, REQUEST_ID, RESPONSE_HEADERS
from sqlhttp_gateway.observe.build import build_version
from sqlhttp_gateway.reply import new_request_id

_ELSEWHERE = frozenset({"Authorization", "Content-Type"})
"""Headers that OpenAPI has other places for."""
_ERROR_FIELDS = (
    *("code", "detail", "hint", "position", "internalPosition", "internalQuery", "severity", "where", "table"),
    *("column", "schema", "dataType", "constraint", "file", "line", "routine"),
)
_STATUSES = {
    "400": "The request is not as it must be, the caller is not who they say, or Postgres reports an error.",
    "408": "The head or the body did not arrive in time.",
    "409": "A request with the same Idempotency-Key is being carried out, or nobody knows what came of it.",
    "413": "The body is too large.",
    "422": "The Idempotency-Key came with another request.",
    "429": "Too many requests of this tenant for now.",
    "431": "The path and the headers are too large.",
    "500": "Postgres cannot be reached or used, or a fault of the gateway.",
    "503": "Busy for now; Retry-After says for how long.",
    "504": "The time that the request had is over.",
    "507": "The answer is too large.",
}

_VALUE = {"description": "A parameter. An object or a nested array becomes JSON or an array of Postgres."}
_STATEMENT = {
    "type": "object",
    "required": ["query"],
    "properties": {
        "query": {"type": "string", "description": "One SQL statement, with $1, $2, … for its parameters."},
        "params": {"type": "array", "items": _VALUE},
        "arrayMode": {"type": "boolean", "description": "Whether rows are arrays; goes before Neon-Array-Mode."},
    },
}
_BATCH = {
    "type": "object",
    "required": ["queries"],
    "properties": {"queries": {"type": "array", "items": {"$ref": "#/components/schemas/Statement"}}},
}
_RESULT = {
    "type": "object",
    "required": ["command", "rowCount", "rows", "fields", "rowAsArray"],
    "properties": {
        "command": {"type": "string"},
        "rowCount": {"type": ["integer", "null"]},
        "rows": {"type": "array", "items": {"type": ["object", "array"]}},
        "fields": {"type": "array", "items": {"type": "object"}},
        "rowAsArray": {"type": "boolean"},
    },
}
_BATCH_RESULT = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}}},
}
_ERROR = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}, **{name: {"type": ["string", "null"]} for name in _ERROR_FIELDS}},
}


def description() -> dict[str, Any]:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "sqlhttp", "version": build_version(), "summary": "Postgres over HTTP"},
        "paths": {
            "/sql": {
                "post": {
                    "operationId": "sql",
                    "summary": "Run one statement, or several in one transaction.",
                    "parameters": [
                        {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}
                        for name, meaning in REQUEST_HEADERS.items()
                        if name not in _ELSEWHERE
                    ],
                    "security": [{}, {"bearer": []}],
                    "requestBody": {
                        "required": True,
                        "content": _json({"anyOf": [_ref("Statement"), _ref("Batch")]}),
                    },
                    "responses": {
                        "200": _answer("What Postgres answered.", {"anyOf": [_ref("Result"), _ref("BatchResult")]}),
                        **{status: _answer(why, _ref("Error")) for status, why in _STATUSES.items()},
                    },
                }
            },
            "/livez": {"get": _probe("The process runs.", ready=False)},
            "/readyz": {"get": _probe("It can serve.", ready=True)},
        },
        "components": {
            "schemas": {
                "Statement": _STATEMENT,
                "Batch": _BATCH,
                "Result": _RESULT,
                "BatchResult": _BATCH_RESULT,
                "Error": _ERROR,
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


async def openapi(request: Request) -> Response:
    """Answer with the document."""
    headers = {REQUEST_ID.decode(): new_request_id()}
    return Response(orjson.dumps(description()), media_type="application/json", headers=headers)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answer(why: str, schema: object) -> dict[str, Any]:
    headers = {
        name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in RESPONSE_HEADERS.items()
    }
    return {"description": why, "headers": headers, "content": _json(schema)}


def _probe(summary: str, *, ready: bool) -> dict[str, Any]:
    responses = {"200": {"description": "Yes.", "content": _json({})}}
    if ready:
        responses["503"] = {"description": "No, and why.", "content": _json({})}
    return {"summary": summary, "responses": responses}
