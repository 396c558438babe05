"""Which statements of a request a grant allows, by their texts alone, before anything is sent to Postgres."""

import hashlib
import re

from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import StatementRefused
from sqlhttp_gateway.model import Batch, Statement

_BLANK = re.compile(r"(?:[ \t\n\r\f\v;]++|--[^\n\r]*+)*+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ENDS = re.compile(r"(?:commit|end|rollback|abort)\b", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_PREPARES = re.compile(r"prepare\b", re.IGNORECASE)


def check_statements(grant: Grant, request: Statement | Batch) -> None:
    """Let a request pass whose every statement the grant allows.

    Raises:
        StatementRefused: one is not on the grant's list, or would end the transaction that its bounds hold in.
    """
    for statement in request.statements if isinstance(request, Batch) else (request,):
        if grant.statements is not None and digest_of(statement.text) not in grant.statements:
            raise StatementRefused(
                "the statement is not on the list of this key",
                hint="Only statements whose SHA-256 is listed run; sqlhttp lock prints it for saved files.",
            )
        if (grant.read_only or grant.set_role is not None) and ends_transaction(statement.text):
            what = "a read-only key" if grant.read_only else "a caller with a role for the transaction"
            raise StatementRefused(f"{what} cannot end the transaction that its statements run in")


def digest_of(text: str) -> bytes:
    """The SHA-256 by which a list names a statement; blanks, line ends and semicolons around it do not count."""
    return hashlib.sha256(text.strip(" \t\r\n;").encode()).digest()


def ends_transaction(text: str) -> bool:
    """Whether the one statement in `text` would end an open transaction, were it run in one.

    Only a statement of its own can: within a transaction block neither a function nor a procedure nor DO may.
    """
    start = _start(text)
    if _PREPARES.match(text, start):
        # PREPARE TRANSACTION, unless a statement is prepared. What stands between the words may be a comment.
        word = _WORD.match(text, _start(text, start + len("prepare")))
        return word is not None and word.group().lower() == "transaction"
    return _ENDS.match(text, start) is not None


def _start(text: str, position: int = 0) -> int:
    """Where the first word begins: behind blanks, empty statements and comments, which nest in Postgres."""
    while True:
        blank = _BLANK.match(text, position)
        position = blank.end() if blank else position
        if not text.startswith("/*", position):
            return position
        depth, position = 1, position + 2
        while depth:
            edge = _COMMENT_EDGE.search(text, position)
            if edge is None:
                return len(text)
            depth += 1 if edge.group() == "/*" else -1
            position = edge.end()
