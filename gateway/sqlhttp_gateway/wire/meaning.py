"""Whether a text means later what it meant when it was parsed, which is what keeping it prepared rests on.

Postgres reads constants as it parses: 'today'::date is that day from then on, and '1/2/2003'::date the one that
DateStyle made of it. What names stand for is looked up again whenever search_path, the role or a table is another one,
so that nothing of that matters here.
"""

import re

from sqlhttp_gateway.wire.effects import MEANING, Pin, effects_of

_CLOCK = re.compile(r"(?:'|\$\w*\$)[\s\d:.,+/-]*(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_OF_CONSTANTS = MEANING - {"escape_string_warning", "role", "search_path", "session_authorization"}
_BY_OTHER_WAYS = re.compile(r"pg_settings|u&\"", re.IGNORECASE)
"""What sets a parameter without naming SET or set_config, or may be hidden behind escapes."""


def is_of_its_moment(text: str) -> bool:
    """Whether there may be a constant in it that stands for the moment at which it is parsed."""
    return _CLOCK.search(text) is not None


def changes_meaning(text: str) -> bool:
    """Whether running it may make the constants of later texts in its transaction mean something else.

    What a function of the program's own does is not seen.
    """
    effects = effects_of(text.encode())
    names = effects.sets + effects.local
    return (
        not _OF_CONSTANTS.isdisjoint(names)
        or "" in effects.local
        or Pin.PARAMETER in effects.pins
        or _BY_OTHER_WAYS.search(text) is not None
    )
