"""What is known of a statement: what it reads and writes, and whether it would give the same again. Pure."""

import re
from dataclasses import dataclass

_COMMENTS = r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/|[(;])*+"
_QUERY = re.compile(_COMMENTS + r"(?:select|with|values|table)\b", re.IGNORECASE)
_CHANGE = re.compile(_COMMENTS + r"(?:insert|update|delete|merge|with)\b", re.IGNORECASE)
_INTO = re.compile(r"(?<!insert\s)(?<!merge\s)\binto\b", re.IGNORECASE)
_LITERAL = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Relations are "schema.name"."""

    reads: frozenset[str] | None = None
    """All that it reads; None: that, and perhaps any other of the database."""
    writes: frozenset[str] | None = None
    """All that it may write; None: perhaps any of the database."""
    refusals: tuple[tuple[str, str], ...] = (("unknown", ""),)
    """Why its answer is not the same again: (reason, what)."""

    @property
    def is_reading(self) -> bool:
        """It changes nothing and locks nothing, so that any server with the data can answer it."""
        return self.writes == NOTHING and not any(reason in ("locks", "unknown") for reason, _ in self.refusals)

    @property
    def writer(self) -> str:
        """A function in it that may change anything; "" for none."""
        return next((what for reason, what in self.refusals if reason == "writes"), "")

    def refusal(self, allow: frozenset[str]) -> str:
        """Why the answer may not be kept for a program that allows so much; "" if it may."""
        for reason, what in self.refusals:
            if reason not in allow:
                return f"{reason}:{what}" if what else reason
        return ""


UNKNOWN = Verdict()
"""Of what has no plan: it may do anything."""


def has_plan(text: str) -> bool:
    """Whether Postgres could explain it, as far as its beginning tells."""
    return _QUERY.match(text) is not None or _CHANGE.match(text) is not None


def makes_table(text: str) -> bool:
    """Whether it may be SELECT INTO, which is explained as if it were a plain SELECT."""
    return _QUERY.match(text) is not None and _INTO.search(_LITERAL.sub("''", text)) is not None
