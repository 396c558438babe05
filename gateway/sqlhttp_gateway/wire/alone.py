"""Whether a program that has not waited for a statement's answer may go on when that was not run.

Whoever is connected to Postgres itself may send BEGIN and an INSERT together: BEGIN fails only with the connection, and
takes the INSERT with it. A gateway that has no backend for the BEGIN, and one for the INSERT a moment later, would run
that alone, and for good. The same goes for SET ROLE, or for a lock. So these are no statements to be declined by
themselves; a query is, as much as it may fail by itself.
"""

from sqlhttp_gateway.wire.control import Control, control_of
from sqlhttp_gateway.wire.effects import NO_EFFECTS, effects_of
from sqlhttp_gateway.wire.lexer import split_statements

_BEGINS = (Control.BEGIN, Control.CHAIN)


def stands_alone(text: bytes) -> bool:
    """Whether nothing that follows `text`, of one or several statements, can mean another thing for lack of it."""
    if effects_of(text) != NO_EFFECTS:
        return False
    return not any(control_of(statement) in _BEGINS for statement in split_statements(text))
