"""Statements and options become headers and a body. Pure: no socket, no clock, no token is fetched here."""

from collections.abc import Sequence
from functools import lru_cache
from json import JSONEncoder
from typing import Literal, NamedTuple, get_args

from sqlhttp._errors import InterfaceError

IsolationLevel = Literal["ReadUncommitted", "ReadCommitted", "RepeatableRead", "Serializable"]
"""As Neon's driver spells them; they go into a header as they are."""

ISOLATION_LEVELS: tuple[str, ...] = get_args(IsolationLevel)

MAX_KEY = 255
"""Characters of an Idempotency-Key that the gateway takes."""

READ_ONLY = "Sqlhttp-Read-Only"
"""The header by which a request only reads, a single statement's too, so that a replica may answer it."""

_compact = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Statement(NamedTuple):
    """One SQL text with its parameters in Postgres's text; None is NULL."""

    text: str
    params: tuple[str | None, ...] = ()

    def __repr__(self) -> str:
        return f"Statement({self.text!r}, {len(self.params)} parameters)"  # never their values


class TransactionOptions(NamedTuple):
    """How the transaction of a batch begins; None leaves it to the database."""

    isolation_level: IsolationLevel | None = None
    read_only: bool | None = None
    deferrable: bool | None = None

    @property
    def any(self) -> bool:
        return self.isolation_level is not None or bool(self.read_only) or bool(self.deferrable)


class Request(NamedTuple):
    """What one POST to /sql carries."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    texts: tuple[str, ...] = ()
    """The statements, for `reads_only` to look at."""
    read_only: bool = False
    """Whether the transaction is, whatever its statements look like."""
    has_key: bool = False
    """Whether the server carries it out once, however often it comes."""

    def __repr__(self) -> str:
        return f"Request({list(self.texts)})"  # never its headers, which have the password, nor its parameters

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again although it may have been carried out."""
        return self.has_key or self.reads_only

    @property
    def reads_only(self) -> bool:
        """Whether nothing is changed when it is carried out twice. Asked only when that matters, which is seldom."""
        if self.read_only:
            return True
        from sqlhttp._reads import only_reads

        return all(only_reads(text) for text in self.texts)


def request(
    statements: Sequence[Statement],
    *,
    batch: bool,
    connection_string: str | None,
    token: str | None = None,
    transaction: TransactionOptions | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> Request:
    """One request for one statement, or for several in one transaction.

    Rows are asked for as Postgres's own text and as arrays, whatever the caller wants: `_response` makes the rest of
    it. `extra` headers replace ours of the same name.

    Raises:
        InterfaceError: the isolation level is unknown, or the text cannot be sent as UTF-8.
    """
    members = [{"query": statement.text, "params": statement.params} for statement in statements]
    try:
        body = _compact({"queries": members} if batch else members[0]).encode()
    except UnicodeEncodeError:
        raise InterfaceError("the query or a parameter has half of a surrogate pair, which is no text") from None
    read_only = transaction is not None and bool(transaction.read_only)
    texts = tuple([statement.text for statement in statements])
    return Request(_headers(connection_string, token, transaction, extra), body, texts, read_only)


def with_key(out: Request, key: str) -> Request:
    """The request under an Idempotency-Key; `auto` makes one, unless the request changes nothing.

    Raises:
        InterfaceError: the key is empty, too long, or has other characters than printable ASCII.
    """
    if key == "auto":
        if out.reads_only:
            return out
        from uuid import uuid4

        key = str(uuid4())
    if not (key.isascii() and key.isprintable() and 0 < len(key) <= MAX_KEY):
        raise InterfaceError(f"idempotency_key= takes 1 to {MAX_KEY} printable ASCII characters, or auto")
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return out._replace(headers=(*out.headers, ("Idempotency-Key", f'"{quoted}"')), has_key=True)


def with_header(out: Request, name: str, value: str) -> Request:
    """The request with one more header, unless the caller has given one of that name."""
    if any(given.lower() == name.lower() for given, _ in out.headers):
        return out
    return out._replace(headers=(*out.headers, (name, value)))


@lru_cache(maxsize=64)
def _headers(
    connection_string: str | None,
    token: str | None,
    transaction: TransactionOptions | None,
    extra: tuple[tuple[str, str], ...],
) -> tuple[tuple[str, str], ...]:
    """The same for all calls of a client, and therefore remembered."""
    headers = {
        "User-Agent": "sqlhttp",
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Neon-Raw-Text-Output": "true",
        "Neon-Array-Mode": "true",
    }
    if connection_string is not None:
        headers["Neon-Connection-String"] = connection_string
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if transaction is not None:
        _add_transaction(headers, transaction)
    given = {name.lower() for name, _ in extra}
    return (*((name, value) for name, value in headers.items() if name.lower() not in given), *extra)


def _add_transaction(headers: dict[str, str], options: TransactionOptions) -> None:
    if options.isolation_level is not None:
        if options.isolation_level not in ISOLATION_LEVELS:
            raise InterfaceError(f"unknown isolation level; one of {', '.join(ISOLATION_LEVELS)}")
        headers["Neon-Batch-Isolation-Level"] = options.isolation_level
    for name, value in (("Read-Only", options.read_only), ("Deferrable", options.deferrable)):
        if value is not None:
            headers[f"Neon-Batch-{name}"] = "true" if value else "false"
