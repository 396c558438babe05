"""Whether a text means later what it meant when it was parsed, which is what keeping it prepared rests on.

Postgres reads constants as it parses: 'today'::date is that day from then on, and '1/2/2003'::date the one that
DateStyle made of it. What names stand for is looked up again whenever search_path, the role or a table is another one.
Of a new table that hides another, a temporary one mostly, nobody tells: what reads the other goes on doing so.
"""

import re

from sqlhttp_gateway.wire.effects import MEANING, Pin, effects_of
from sqlhttp_gateway.wire.lexer import first_word

_BESIDE = r"(?:[^a-z'$]|\b(?:[ap]m|z|zulu|utc|gmt|mon|tue|wed|thu|fri|sat|sun|null|-?infinity)\b)*+"
"""What may stand in front of the word in a constant: Postgres passes over most signs and some words in a date, and a
range or an array has brackets and other dates there."""
_CALL = r"\s*\(\s*\)(?![\s\])}]*['$])"
_CLOCK = re.compile(
    rf"(?:'|\$\w*\$)(?:{_BESIDE}(?:now|today|tomorrow|yesterday)(?![a-z])(?!{_CALL})|\s*[\[{{(]\s*now\s*\()",
    re.IGNORECASE,
)
"""The beginning of such a constant; what is behind another one's end is not, if it calls now(). Postgres takes 'now()'
for a constant, too: no call has a quote behind it, or stands behind a quote and a bracket."""
_NAMED = re.compile(r"\breg(?:proc(?:edure)?|oper(?:ator)?|role|namespace|type|collation)\b", re.IGNORECASE)
"""Types whose constants are a name, read as the OID that it has then; of regclass alone Postgres sees to it that it is
read again."""
_OF_CONSTANTS = MEANING - {"escape_string_warning", "role", "search_path", "session_authorization"}
_MAKES = frozenset({b"create", b"alter", b"import"})
"""What may make a table, view or function that hides another of its name."""
_SELECT_INTO = re.compile(r"(?<!insert)(?<!merge)(?<!\s)\s+into\b")
_QUERY = re.compile(r"\s*+(?:select|insert|update|delete|with|values|merge|table)\b", re.IGNORECASE)


def speaks_of_now(text: str) -> bool:
    """Whether there may be a date in it that is today's by its very text: Postgres reads 'now' as the moment."""
    return _CLOCK.search(text) is not None


def is_of_its_moment(text: str) -> bool:
    """Whether there may be a constant in it that stands for what is so at the moment at which it is parsed."""
    return speaks_of_now(text) or _NAMED.search(text) is not None


def changes_meaning(text: str) -> bool:
    """Whether running it may make the constants, or the names, of later texts in its transaction mean something else.

    What a function of the program's own does is not seen.
    """
    lower = text.lower()
    if "pg_settings" in lower or 'u&"' in lower:  # what sets one by an UPDATE, or may be hidden behind escapes
        return True
    if "into" in lower and _SELECT_INTO.search(lower) is not None:
        return True
    if "set_config" not in lower and _QUERY.match(text) is not None:
        return False  # nearly always, and in an eighth of the time
    encoded = text.encode()
    if first_word(encoded) in _MAKES:
        return True
    effects = effects_of(encoded)
    names = effects.sets + effects.local
    return not _OF_CONSTANTS.isdisjoint(names) or "" in effects.local or Pin.PARAMETER in effects.pins
