"""A program that sends literal requests to /sql and shows the literal answers, with no driver between.

Connections are kept alive, as a driver's are. Nothing here judges an answer.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway

RAW = {"Neon-Raw-Text-Output": "true", "Neon-Array-Mode": "true"}
"""What every driver sends: Postgres's own text, rows as arrays."""
TIMEOUT = 60.0  # seconds; nothing takes a tenth of it

_numbers = itertools.count(1)


class Program:
    """Posts to one gateway as one role of one database."""

    def __init__(self, http: httpx.Client, endpoint: str, connection_string: str) -> None:
        self._http = http
        self.endpoint = endpoint
        self.connection_string = connection_string

    def to(self, database: Database) -> "Program":
        """The same program with another connection string."""
        return Program(self._http, self.endpoint, database.url)

    def post(self, body: object, headers: Mapping[str, str | None] | None = None) -> httpx.Response:
        """The response to one request. Bytes are sent as they are, all else as JSON; a header of None is left out."""
        given: dict[str, str | None] = {"Neon-Connection-String": self.connection_string, **(headers or {})}
        return self._http.post(
            self.endpoint,
            content=body if isinstance(body, bytes) else orjson.dumps(body),
            headers={name: value for name, value in given.items() if value is not None},
        )

    def ask(self, text: str, *params: object, headers: Mapping[str, str | None] | None = None) -> Any:
        """The body of a statement's answer, which must be a success."""
        response = self.post({"query": text, "params": list(params)}, headers)
        assert response.status_code == 200, response.text
        return response.json()

    def rows(self, text: str, *params: object) -> list[list[Any]]:
        """The rows of a statement as arrays, typed."""
        rows: list[list[Any]] = self.ask(text, *params, headers={"Neon-Array-Mode": "true"})["rows"]
        return rows

    def value(self, text: str, *params: object) -> Any:
        """The one value of the one row, typed."""
        [[value]] = self.rows(text, *params)
        return value

    def error(self, text: str, *params: object, status: int = 400) -> dict[str, Any]:
        """The body of a statement's error, which must have this status."""
        response = self.post({"query": text, "params": list(params)})
        assert response.status_code == status, response.text
        error: dict[str, Any] = response.json()
        return error


@contextmanager
def program_of(gateway: Gateway, database: Database) -> Iterator[Program]:
    """A program for the length of the block."""
    # trust_env: a proxy of the developer's machine has no business with 127.0.0.1.
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
        yield Program(http, gateway.sql, database.url)


@contextmanager
def scratch_database(postgres: Cluster) -> Iterator[Database]:
    """A database for the length of the block, which a whole file of tests may share."""
    database = postgres.database(f"scratch_{next(_numbers)}")
    postgres.maintenance.psql(f"CREATE DATABASE {database.name} TEMPLATE template0 ENCODING 'UTF8' STRATEGY wal_log")
    try:
        yield database
    finally:
        postgres.maintenance.psql(f"DROP DATABASE {database.name} WITH (FORCE)")


@contextmanager
def scratch_role(postgres: Cluster, options: str = "") -> Iterator[str]:
    """A role with the password `secret`; `options` as in CREATE ROLE."""
    role = f"role_{next(_numbers)}"
    postgres.maintenance.psql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret' {options}")
    try:
        yield role
    finally:
        postgres.maintenance.psql(f"DROP ROLE {role}")
