"""What EXPLAIN keeps to itself is read in the statement: names only, and rather too many of them than too few. Pure.

A plan does not show the expressions in lists of VALUES, in LIMIT and OFFSET, in the frames of windows, and in what ON
CONFLICT and MERGE set. All but the first stand in the statement itself; VALUES may be a view's, too, which is noticed
by there being more lists in the plan than in the text.
"""

import re

from sqlhttp_gateway.reads.plain import plain_text
from sqlhttp_gateway.reads.plan import Plan, names_called

_BOUND = re.compile(
    r"\b(?:limit|offset|fetch|rows|range|groups|between)\b"
    r"(?! (?:(?:\$?\d+|all|null)(?:::(?:int[248]?|integer|bigint))?\s*(?:\Z|[;)]|\b(?:offset|limit|for|rows?|and)\b)"
    r"|from\b))",
    re.IGNORECASE,
)
"""What may stand in front of a number that is computed, unless it is one as it stands, and nothing is done to it."""
_NOW = re.compile(r"\b(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\b")


def unveil(plan: Plan, text: str) -> None:
    """Add to the plan's names those of the statement, if it has something that no plan shows.

    Raises:
        ValueError: its names cannot be read.
    """
    if not plan.value_lists and not plan.is_veiled and _BOUND.search(text) is None:
        return
    plain = plain_text(text.encode(errors="surrogatepass"), lambda value: " ''")
    if "\\" in plain:
        raise ValueError("a name with escapes in it")
    plan.is_veiled = True
    plan.has_hidden_values = len(re.findall(r"\bvalues\b", plain)) < plan.value_lists
    plan.expressions += "\n" + plain
    plan.functions |= names_called(plain)
    plan.has_clock = plan.has_clock or _NOW.search(plain) is not None
