"""A client for tests that asks nobody: it answers statements from what the test has said.

All of the client is real but its transport: text, parameters, rows and errors go through the same code as over a
network. Over a WebSocket what is real ends at the statements and their answers, before they are bytes.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlhttp._endpoint import Endpoint, destination
from sqlhttp._http1 import Reply
from sqlhttp._line import Line, Steps
from sqlhttp._neon import Sql
from sqlhttp._options import ClientOptions
from sqlhttp._params import Json, encode_param
from sqlhttp._request import Request, Statement
from sqlhttp._response import error_of
from sqlhttp._scan import first_word
from sqlhttp._types import ELEMENT_OF
from sqlhttp._wire.backend import Notification

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
        """Every statement, in order; those of a transaction one by one; BEGIN and COMMIT where they are said."""
        self._answers: list[_Answer] = []
        self._notifications: deque[Notification] = deque()

    @property
    def sql(self) -> Sql[list[dict[str, Any]]]:
        """A client as `neon()` makes it; `with_(…)` gives others."""

        def tunnel(*_: Any, **__: Any) -> _Tunnel:
            return _Tunnel(self)

        return Sql(ClientOptions(destination(URL, None, {}), _Transport(self), retry=None, tunnel=tunnel))

    @property
    def async_sql(self) -> "AsyncSql[list[dict[str, Any]]]":
        """A client as `neon_async()` makes it."""
        from sqlhttp._async import AsyncSql

        async def tunnel(*_: Any, **__: Any) -> _AsyncTunnel:
            return _AsyncTunnel(self)

        return AsyncSql(ClientOptions(destination(URL, None, {}), _AsyncTransport(self), retry=None, tunnel=tunnel))

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

    def notify(self, channel: str, payload: str = "") -> None:
        """Let `sql.listen(channel)` give this notification; when there is none left, its iteration ends."""
        self._notifications.append(Notification(channel, payload, 0))

    def reply(self, request: Request) -> Reply:
        """What a server would send."""
        body = json.loads(request.body)
        statements = body.get("queries", [body])
        answers = []
        for statement in statements:
            answer = self._ask(Said(statement["query"], tuple(statement["params"])))
            if answer.status != 200:
                return Reply(answer.status, {}, json.dumps(answer.body).encode())
            answers.append(answer.body)
        return Reply(200, {}, json.dumps({"results": answers} if "queries" in body else answers[0]).encode())

    def _ask(self, said: Said) -> _Answer:
        self.asked.append(said)
        return self._find(said.text)

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


_ENDS = frozenset({"commit", "end", "rollback"})
_ANSWERED = frozenset({"begin", "savepoint", "release", "listen", *_ENDS})
"""What needs no answer from the test."""


class _Line(Line):
    """Asks the fake, and knows of transactions what is needed to begin and to end them."""

    def __init__(self, fake: FakeNeon) -> None:
        super().__init__()
        self._fake = fake
        self._status = "I"
        self._channels: set[str] = set()

    @property
    def is_usable(self) -> bool:
        return True

    @property
    def status(self) -> str:
        return self._status

    def log_in(
        self, parameters: Mapping[str, str], password: bytes | None, statements: Sequence[Statement] = ()
    ) -> Steps[list[dict[str, Any]]]:
        return (yield from self.run(*statements))

    def run(self, *statements: Statement) -> Steps[list[dict[str, Any]]]:
        yield from ()
        return [self._answer(Said(*statement)) for statement in statements]

    def wait(self) -> Steps[Notification | None]:
        yield from ()
        heard = [notification for notification in self._fake._notifications if notification.channel in self._channels]
        if not heard:
            return None
        self._fake._notifications.remove(heard[0])
        return heard[0]

    def _answer(self, said: Said) -> dict[str, Any]:
        word = first_word(said.text)
        if word in _ANSWERED:
            self._fake.asked.append(said)
            return {"fields": [], "rows": [], "command": self._turned(word, said.text), "rowCount": None}
        answer = self._fake._ask(said)
        if answer.status != 200:
            self._status = "E" if self._status != "I" else "I"
            raise error_of(Reply(answer.status, {}, json.dumps(answer.body).encode()), (said.text,))
        return json.loads(json.dumps(answer.body))  # type: ignore[no-any-return]  # a copy, as from a network

    def _turned(self, word: str, text: str) -> str:
        """The command tag, once the statement has taken effect on the transaction."""
        tag = "ROLLBACK" if word in _ENDS and self._status == "E" else word.upper()
        if word == "listen":
            self._channels.add(text.removeprefix('LISTEN "').removesuffix('"').replace('""', '"'))
        elif word in _ENDS and " to " not in text.lower():
            self._status = "I"
        elif word in ("begin", "rollback"):
            self._status = "T"
        return tag


class _Tunnel:
    def __init__(self, fake: FakeNeon) -> None:
        self.line = _Line(fake)

    def drive(self, steps: Steps[Any], deadline: float | None) -> Any:
        try:
            next(steps)
        except StopIteration as done:
            return done.value
        raise AssertionError("there is nobody to wait for")

    def close(self) -> None:
        """Nothing is open."""


class _AsyncTunnel:
    def __init__(self, fake: FakeNeon) -> None:
        self._tunnel = _Tunnel(fake)
        self.line = self._tunnel.line

    async def drive(self, steps: Steps[Any], deadline: float | None) -> Any:
        return self._tunnel.drive(steps, deadline)

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
