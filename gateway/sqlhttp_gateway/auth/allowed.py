"""Which statements of a request a grant allows, by their texts alone, before anything is sent to Postgres."""

import hashlib

from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import StatementRefused
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.wire.control import ends_transaction


def check_statements(grant: Grant, request: Statement | Batch) -> None:
    """Let a request pass whose every statement the grant allows.

    Raises:
        StatementRefused: one is not on the grant's list, or would end the transaction that its bounds hold in.
    """
    for statement in request.statements if isinstance(request, Batch) else (request,):
        check_listed(grant, statement.text)
        if (grant.read_only or grant.set_role is not None) and ends_transaction(statement.text.encode()):
            what = "a read-only key" if grant.read_only else "a caller with a role for the transaction"
            raise StatementRefused(f"{what} cannot end the transaction that its statements run in")


def check_listed(grant: Grant, text: str) -> None:
    """Let a statement pass that is on the grant's list, if there is one.

    Raises:
        StatementRefused: it is not.
    """
    if grant.statements is not None and digest_of(text) not in grant.statements:
        raise StatementRefused(
            "the statement is not on the list of this key",
            hint="Only statements whose SHA-256 is listed run; sqlhttp lock prints it for saved files.",
        )


def digest_of(text: str) -> bytes:
    """The SHA-256 by which a list names a statement; blanks, line ends and semicolons around it do not count."""
    return hashlib.sha256(text.strip(" \t\r\n;").encode()).digest()
