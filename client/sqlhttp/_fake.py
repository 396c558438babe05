"""A client for tests that asks nobody: it answers statements from what the test has said.

All of the client is real but its transport: text, parameters, rows and errors go through the same code as over a
network.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlhttp._endpoint import Endpoint, destination
from sqlhttp._http1 import Reply
from sqlhttp._neon import Sql
from sqlhttp._options import ClientOptions
from sqlhttp._params import Json, encode_param
from sqlhttp._request import Request
from sqlhttp._types import ELEMENT_OF

if TYPE_CHECKING:
    from sqlhttp._async import AsyncSql

URL = "postgresql://fake:fake@localhost/fake"

_OIDS = {
    "bool": 16,
    "bytes": 17,
    "int": 20,
    "str": 25,
    "float": 701,
    "date": 1082,
    "time": 1083,
    "datetime": 1184,
    "timedelta": 1186,
    "Decimal": 1700,
    "UUID": 2950,
    "dict": 3802,
    "Json": 3802,
    "IPv4Address": 869,
    "IPv6Address": 869,
    "IPv4Interface": 869,
    "IPv6Interface": 869,
    "IPv4Network": 650,
    "IPv6Network": 650,
}
_ARRAY_OF = {element: array for array, element in ELEMENT_OF.items()}
_UNKNOWN = 25  # text, as a column of NULLs


class Said(NamedTuple):
    """A statement that the fake was asked."""

    text: str
    params: tuple[str | None, ...]
    """As Postgres would have read them."""


class _Answer(NamedTuple):
    part: str
    status: int
    body: Mapping[str, Any]


class FakeNeon:
    """Answers by what a statement's text contains; the answer given last goes first."""

    def __init__(self) -> None:
        self.asked: list[Said] = []
        """Every statement, in order; those of a transaction one by one."""
        self._answers: list[_Answer] = []

    @property
    def sql(self) -> Sql[list[dict[str, Any]]]:
        """A client as `neon()` makes it; `with_(…)` gives others."""
        return Sql(ClientOptions(destination(URL, None, {}), _Transport(self), retry=None))

    @property
    def async_sql(self) -> "AsyncSql[list[dict[str, Any]]]":
        """A client as `neon_async()` makes it."""
        from sqlhttp._async import AsyncSql

        return AsyncSql(ClientOptions(destination(URL, None, {}), _AsyncTransport(self), retry=None))

    def answer(
        self,
        part: str,
        rows: Sequence[Mapping[str, Any]] = (),
        *,
        row_count: int | None = None,
        command: str = "SELECT",
    ) -> None:
        """Let statements that contain `part` give these rows."""
        names = list(rows[0]) if rows else []
        fields = [
            {"name": name, "dataTypeID": next((_type_id(row[name]) for row in rows if row[name] is not None), _UNKNOWN)}
            for name in names
        ]
        texts = [[_printed(row[name]) for name in names] for row in rows]
        counted = len(rows) if row_count is None else row_count
        self._answers.append(
            _Answer(part, 200, {"fields": fields, "rows": texts, "command": command, "rowCount": counted})
        )

    def fail(self, part: str, sqlstate: str, message: str = "as the test asked", **fields: str) -> None:
        """Let statements that contain `part` fail; `fields` are Neon's, such as `constraint="users_pkey"`."""
        self._answers.append(_Answer(part, 400, {"message": message, "code": sqlstate, "severity": "ERROR", **fields}))

    def reply(self, request: Request) -> Reply:
        """What a server would send."""
        body = json.loads(request.body)
        statements = body.get("queries", [body])
        answers = []
        for statement in statements:
            said = Said(statement["query"], tuple(statement["params"]))
            self.asked.append(said)
            answer = self._find(said.text)
            if answer.status != 200:
                return Reply(answer.status, {}, json.dumps(answer.body).encode())
            answers.append(answer.body)
        return Reply(200, {}, json.dumps({"results": answers} if "queries" in body else answers[0]).encode())

    def _find(self, text: str) -> _Answer:
        fitting = [answer for answer in self._answers if answer.part in text]
        if not fitting:
            raise AssertionError(f"the test has no answer for this statement: {text}")
        return fitting[-1]


class _Transport:
    def __init__(self, fake: FakeNeon) -> None:
        self._fake = fake

    def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        return self._fake.reply(request)

    def close(self) -> None:
        """Nothing is open."""


class _AsyncTransport:
    def __init__(self, fake: FakeNeon) -> None:
        self._fake = fake

    async def send(self, endpoint: Endpoint, request: Request, deadline: float | None) -> Reply:
        return self._fake.reply(request)

    async def close(self) -> None:
        """Nothing is open."""


def _printed(value: Any) -> str | None:
    """The value as Postgres prints it, where that differs from what it reads."""
    return encode_param(_printable(value))


def _printable(value: Any) -> Any:
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, timedelta):
        minutes, seconds = divmod(value.seconds, 60)
        return f"{value.days} days {minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{value.microseconds:06d}"
    return value


def _type_id(value: Any) -> int:
    """The type whose column would give this value."""
    if isinstance(value, list):
        inner: Any = value
        while isinstance(inner, list):
            inner = next((item for item in inner if item is not None), None)
        return _ARRAY_OF[_type_id(inner)]
    if isinstance(value, Json):
        return _OIDS["Json"]
    return next((_OIDS[base.__name__] for base in type(value).__mro__ if base.__name__ in _OIDS), _UNKNOWN)
