"""What the text of a statement says of how it has to be run, before Postgres has seen it."""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from sqlhttp_gateway.model import Prologue, Statement, TransactionOptions
from sqlhttp_gateway.wire.exchange import copy_refused
from sqlhttp_gateway.wire.lexer import tokens_of

_PLAIN = re.compile(r"\s*(?:select|insert|update|delete|with|values|merge|table)\b", re.IGNORECASE)
"""What begins like this cannot leave a transaction open, so its scrub may travel in the same write."""
_READS = re.compile(r"\s*(?:select|values|table|show)\b", re.IGNORECASE)
_ROWLESS = re.compile(
    r"\s*(?:insert|update|delete|merge|create|alter|drop|truncate|set|reset|lock|grant|revoke|comment|notify|do)\b",
    re.IGNORECASE,
)
_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)
_MAY_COPY = re.compile(r"(?:[\s;]|--|/\*|copy\b)", re.IGNORECASE)


def is_plain(request: Statement) -> bool:
    """Whether the statement ends as a whole or not at all: no CALL or DO, which may commit on the way.

    `plain.start_plain` may run it, where nothing is to run in front of it and no pooler is in between.
    """
    return is_plain_text(request.text)


def is_plain_text(text: str) -> bool:
    """The same of its text."""
    return _PLAIN.match(text) is not None


def refuse_streams(statements: Iterable[Statement]) -> None:
    """Let nothing begin that needs a stream of COPY data.

    Raises:
        UnsupportedStatement: one of the statements does.
    """
    if any(_needs_stream(statement.text) for statement in statements):
        raise copy_refused()


def beginning(transaction: TransactionOptions, prologue: Prologue | None) -> tuple[Statement, ...]:
    """What opens the transaction, and what the gateway runs in it first."""
    if prologue is None:
        return (Statement(transaction.begin),)
    if prologue.read_only:
        transaction = replace(transaction, read_only=True)
    return Statement(transaction.begin), *prologue.statements


def holds_commit(texts: Collection[str]) -> bool:
    """Whether COMMIT has to wait until all results are here, which costs a round trip.

    A batch that wrote something must not be committed when its answer turns out to be too large to give.
    """
    return not all(map(_READS.match, texts)) and not all(map(_is_rowless, texts))


def _is_rowless(text: str) -> bool:
    return _ROWLESS.match(text) is not None and _RETURNING.search(text) is None


def _needs_stream(text: str) -> bool:
    """Whether it is a COPY from or to the program; Postgres takes STDIN and STDOUT for the same."""
    if _MAY_COPY.match(text) is None or "copy" not in text.lower():
        return False
    depth, before, is_copy = 0, b"", False
    for token in tokens_of(text.encode()):
        if token.kind == "other":
            depth += {b"(": 1, b")": -1}.get(token.value, 0)
        word = token.value if token.kind == "word" and not depth else b""
        if not is_copy and token.value != b";":
            if word != b"copy":
                return False
            is_copy = True
        if before in (b"from", b"to") and word in (b"stdin", b"stdout"):
            return True
        before = word
    return False
