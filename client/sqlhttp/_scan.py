"""Postgres's SQL cut into the few kinds of token that matter here: where `$1` stands, and what a statement does.

Not a parser: it knows what is quoted or commented out, and no grammar. The rules are those of "Lexical Structure" in
the Postgres manual.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_IN_ESCAPE = r"(?:[^'\\]|\\.|'')*+"
# A string goes on, as what it is, where nothing but a line's end, blanks and comments are between its quotes. Python
# before 3.11.5 forgets to go back where a possessive group fails in its middle: so what holds this is none.
_GOES_ON = r"'(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*'"
_TOKEN = re.compile(
    rf"""
      (?P<escape>[eE]'{_IN_ESCAPE}(?:{_GOES_ON}{_IN_ESCAPE})*'?)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<placeholder>\$[0-9]+)
    | (?P<dollar>\$(?P<tag>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<name>"(?:[^"]|"")*(?:"|\Z))
    | (?P<line>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<number>[0-9][0-9_.]*)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """`kind` is the group's name in the pattern; `start` and `end` are its place in the text."""

    kind: str
    start: int
    end: int


def tokens(text: str) -> Iterator[Token]:
    """All of the text, in order. A quote or comment that does not end takes the rest."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # `other` takes any character
        kind, start, position = match.lastgroup or "other", match.start(), match.end()
        if match["dollar"] is not None:
            kind = "string"
            close = text.find(match["dollar"], position)
            position = len(text) if close < 0 else close + len(match["dollar"])
        elif kind == "block":
            position = _end_of_comment(text, position)
        yield Token(kind, start, position)


def _end_of_comment(text: str, position: int) -> int:
    depth = 1  # block comments nest
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def first_word(text: str) -> str:
    """The statement's first word in lower case; empty when it begins with none."""
    for token in tokens(text):
        if token.kind not in ("space", "line", "block"):
            return text[token.start : token.end].lower() if token.kind == "word" else ""
    return ""


def runs_in_parts(text: str) -> bool:
    """Whether the statement, outside a transaction, may commit a part of itself before it fails."""
    return first_word(text) in ("call", "do", "vacuum", "analyze", "analyse", "cluster", "reindex")


class Placeholder(NamedTuple):
    """`$number` at a place in a text."""

    number: int
    start: int
    end: int


@lru_cache(maxsize=512)
def placeholders(text: str) -> tuple[Placeholder, ...]:
    """Every `$n` that Postgres would see as a parameter, in order."""
    return tuple(
        Placeholder(int(text[token.start + 1 : token.end]), token.start, token.end)
        for token in tokens(text)
        if token.kind == "placeholder"
    )
