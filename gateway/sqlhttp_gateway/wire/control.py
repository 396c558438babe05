"""What a statement does to the transaction that it runs in, by its first words.

Only a statement of its own can begin or end a transaction block: within one neither a function nor a procedure nor DO
may. There is one way around: SQL's EXECUTE runs whatever a protocol-level Parse has prepared, a COMMIT too. That takes
effect at the next Sync and no earlier, so whoever has to know looks at the status that ReadyForQuery tells. It does not
tell of COMMIT AND CHAIN, which therefore is prepared under no name.
"""

import re
from enum import Enum, auto
from itertools import dropwhile, islice

from sqlhttp_gateway.wire.lexer import Token, tokens_of


class Control(Enum):
    """What becomes of the transaction block."""

    NONE = auto()
    BEGIN = auto()
    SET = auto()
    """SET TRANSACTION: belongs to the BEGIN before it."""
    END = auto()
    CHAIN = auto()
    """One ends and another begins."""
    ALONE = auto()
    """DISCARD ALL, which runs nothing of anybody's, and only outside of one."""


_BLANK = rb"(?:[ \t\n\r\f\v;]++|--[^\n\r]*+)*+"
_SUSPECT = re.compile(
    _BLANK + rb"(?:/\*|(?:begin|start|set|commit|end|rollback|abort|prepare|discard)(?![A-Za-z0-9_$\x80-\xff]))",
    re.IGNORECASE,
)
"""Nearly no statement begins like this, or with a comment; those that do are looked at."""
_OPTIONAL = (b"work", b"transaction")


def control_of(text: bytes) -> Control:
    """What the one statement in `text` does."""
    if _SUSPECT.match(text) is None:
        return Control.NONE
    words = [_word(token) for token in islice(dropwhile(_is_semicolon, tokens_of(text)), 4)]
    match words:
        case [b"begin", *_] | [b"start", b"transaction", *_]:
            return Control.BEGIN
        case [b"set", b"transaction", *_]:
            return Control.SET
        case [b"prepare", b"transaction", *_]:
            return Control.END
        case [b"discard", b"all"]:
            return Control.ALONE
        case [b"commit" | b"rollback", b"prepared", *_]:
            return Control.NONE  # of a transaction that was prepared earlier, and never within a block
        case [b"commit" | b"end" | b"rollback" | b"abort", *rest]:
            rest = rest[1:] if rest[:1] and rest[0] in _OPTIONAL else rest
            if rest[:1] == [b"to"] and words[0] == b"rollback":
                return Control.NONE  # a savepoint
            return Control.CHAIN if rest[:2] == [b"and", b"chain"] else Control.END
    return Control.NONE


def ends_transaction(text: bytes) -> bool:
    """Whether the one statement in `text` would end an open transaction, were it run in one."""
    return control_of(text) in (Control.END, Control.CHAIN)


def _word(token: Token) -> bytes:
    return token.value if token.kind == "word" else b""


def _is_semicolon(token: Token) -> bool:
    return token.kind == "other" and token.value == b";"
