"""GET /openapi.json: the gateway's HTTP endpoints in the words of OpenAPI 3.1, for tools that read those.

What a header means is told once, in `neon.headers`; here it is only put where OpenAPI wants it. QUERY, which does what
POST does, is left out, since OpenAPI knows that method only from 3.2 on; so are OPTIONS and HEAD, which say nothing of
their own, and WebSockets, of which OpenAPI knows nothing. An address describes what it serves: with `admin.port` or
`admin.unix_socket`, /metrics and /status are not at the one of /sql.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.neon.headers import REQUEST_HEADERS, REQUEST_ID, RESPONSE_HEADERS
from sqlhttp_gateway.reply import new_request_id

PATH = "/openapi.json"
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
    "415": "The body came in a Content-Encoding; Accept-Encoding says that none is undone.",
    "422": "The Idempotency-Key came with another request.",
    "429": "Too many requests of this tenant for now.",
    "431": "The path and the headers are too large.",
    "500": "Postgres cannot be reached or used, or a fault of the gateway.",
    "503": "Busy for now; Retry-After says for how long.",
    "504": "The time that the request had is over.",
    "507": "The answer is too large.",
}

_INVALIDATE_STATUSES = {
    "400": "The body names nothing, or the caller is not who they say, or may not end that.",
    "408": _STATUSES["408"],
    "413": _STATUSES["413"],
    "429": "Too many wrong passwords for this role from this address.",
    "431": _STATUSES["431"],
    "500": _STATUSES["500"],
    "503": _STATUSES["503"],
}

_CREDENTIALS: list[dict[str, list[str]]] = [{}, {"bearer": []}]
"""Those in the connection string, or a key or token."""
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
_NAMES = {"type": "array", "items": {"type": "string"}}
_INVALIDATION = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        "tags": {**_NAMES, "description": "Those that answers were given by Sqlhttp-Cache-Tags."},
        "relations": {**_NAMES, "description": "Tables and views; in the schema public where they name none."},
        "all": {"type": "boolean", "description": "Every answer of the database, or of the key or token."},
        "everywhere": {"type": "boolean", "description": "Every database of the target, for those in admin.roles."},
    },
}
_COUNT = {"type": "integer", "minimum": 0}
_COUNTS = {"type": "object", "additionalProperties": _COUNT}
_LIST = {"type": "array", "items": {"type": "object"}}
_STATUS = {
    "version": {"type": "string"},
    "state": {"enum": ["serving", "draining"]},
    "uptime_seconds": {"type": "number"},
    "workers": _COUNT,
    "connections": {**_COUNTS, "description": "To Postgres: open, and the limit."},
    "programs": {"type": "object", "description": "Those connected by each door, and the limit for one worker."},
    "requests": {**_COUNTS, "description": "Answered, by how they ended."},
    "pools": _LIST,
    "servers": {**_LIST, "description": "Of targets that have several."},
    "cache": {"type": "object"},
    "postgres": {"type": ["object", "null"], "description": "The last look at it; null without `watch.interval`."},
    "alerts": {**_LIST, "description": "Those that are on."},
}
"""Members of the object at /status."""
_PROBED = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": ["live", "ready", "unready", "draining"]}, "reason": {"type": "string"}},
    "additionalProperties": False,
}
_NOT_FROM_HERE = {
    "description": "Not from this address: see admin.allow_from.",
    "content": {"application/json": {"schema": _ERROR}},
}


def description(paths: Collection[str] | None = None) -> dict[str, Any]:
    """The OpenAPI document of what is at these `paths`; None: of all that there is."""
    described: dict[str, dict[str, Any]] = {
        "/sql": {"post": _sql()},
        "/cache/invalidate": {"post": _invalidate()},
        "/livez": {"get": _probe("The process runs.", ready=False)},
        "/readyz": {"get": _probe("It can serve.", ready=True)},
        "/metrics": {"get": _metrics()},
        "/status": {"get": _status()},
        PATH: {"get": {"summary": "This description.", "responses": {"200": _answer("It.", {"type": "object"}, ())}}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sqlhttp", "version": build_version(), "summary": "Postgres over HTTP"},
        "paths": {path: operations for path, operations in described.items() if paths is None or path in paths},
        "components": {
            "schemas": {
                "Statement": _STATEMENT,
                "Batch": _BATCH,
                "Result": _RESULT,
                "BatchResult": _BATCH_RESULT,
                "Invalidation": _INVALIDATION,
                "Status": {
                    "type": "object",
                    "required": list(_STATUS),
                    "properties": _STATUS,
                    "additionalProperties": False,
                },
                "Error": _ERROR,
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def openapi_of(paths: Collection[str]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that answers with the document of what is at these paths."""
    document = orjson.dumps(description(paths))

    async def openapi(request: Request) -> Response:
        return Response(document, media_type="application/json", headers={REQUEST_ID.decode(): new_request_id()})

    return openapi


def _sql() -> dict[str, Any]:
    return {
        "operationId": "sql",
        "summary": "Run one statement, or several in one transaction.",
        "parameters": [
            {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}
            for name, meaning in REQUEST_HEADERS.items()
            if name not in _ELSEWHERE
        ],
        "security": _CREDENTIALS,
        "requestBody": {"required": True, "content": _json({"anyOf": [_ref("Statement"), _ref("Batch")]})},
        "responses": {
            "200": _answer("What Postgres answered.", {"anyOf": [_ref("Result"), _ref("BatchResult")]}),
            **{status: _answer(why, _ref("Error")) for status, why in _STATUSES.items()},
        },
    }


def _invalidate() -> dict[str, Any]:
    name = "Neon-Connection-String"
    return {
        "operationId": "invalidate",
        "summary": "End answers of the result cache: once this is answered, nobody is given any of them.",
        "parameters": [
            {"name": name, "in": "header", "description": REQUEST_HEADERS[name], "schema": {"type": "string"}}
        ],
        "security": _CREDENTIALS,
        "requestBody": {"required": True, "content": _json(_ref("Invalidation"))},
        "responses": {
            "204": {"description": "They are gone."},
            **{status: _answer(why, _ref("Error")) for status, why in _INVALIDATE_STATUSES.items()},
        },
    }


def _metrics() -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {
        "operationId": "metrics",
        "summary": "Everything that is counted and measured, for Prometheus.",
        "responses": {
            "200": {
                "description": "In Prometheus's text format, or in OpenMetrics' where Accept prefers that.",
                "content": {"text/plain": text, "application/openmetrics-text": text},
            },
            "403": _NOT_FROM_HERE,
        },
    }


def _status() -> dict[str, Any]:
    return {
        "operationId": "status",
        "summary": "How the gateway and its Postgres do, over all workers.",
        "responses": {"200": _answer("So they do.", _ref("Status"), ()), "403": _NOT_FROM_HERE},
    }


def _probe(summary: str, *, ready: bool) -> dict[str, Any]:
    responses = {"200": _answer("Yes.", _PROBED, ())}
    if ready:
        responses["503"] = _answer("No, and why.", _PROBED, ())
    return {"summary": summary, "responses": responses}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answer(why: str, schema: object, headers: Collection[str] = RESPONSE_HEADERS) -> dict[str, Any]:
    told = {name: {"description": RESPONSE_HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {"description": why, "headers": told, "content": _json(schema)}
