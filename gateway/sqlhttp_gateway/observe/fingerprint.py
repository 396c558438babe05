"""What statements have in common when only their values differ: a text without values, and a short name for it.

Made for the log, where the text of a statement may stand but no value may: literals, comments and the numbers of
parameters become "?", lists of them one, and what is not closed is taken to be a value to its end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

_READ = 20_000
"""Characters that are looked at; statements that differ only behind them have one fingerprint."""
_SHOWN = 500

_TOKEN = re.compile(
    r"""
      (?P<comment>  --[^\n\r]* )
    | (?P<block>    /\* )
    | (?P<value>    (?<!\w)[eE]'(?:[^'\\]|\\.|'')*+
                    # what follows behind a new line is more of it, and its backslashes mean what they do here
                    (?:'(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:\s|--[^\n\r]*+[\n\r])*'(?:[^'\\]|\\.|'')*+)*(?:'|\Z)
                  | (?:(?<!\w)(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*(?:'|\Z)
                  | (?<![\w$])\$(?P<tag>[A-Za-z_\x80-\uffff][\w\x80-\uffff]*|)\$.*?(?:\$(?P=tag)\$|\Z)
                  | (?<![\w$])\$\d+
                  | (?<![\w$])(?:0[xXoObB][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?) )
    | (?P<name>     "(?:[^"]|"")*(?:"|\Z) )
    | (?P<word>     [\w$]+ )
    | (?P<operator> (?:(?!--|/\*)[-+*/<>=~!@\#%^&|`?:])+ )
    | (?P<space>    \s+ )
    | (?P<other>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = re.compile(r"/\*|\*/")
_TIDY = (
    (re.compile(r'(?<=[(\[.]) | (?=[)\],.;])|(?<=[\w"]) (?=\()|(?<=::) | (?=::)'), ""),
    (re.compile(r"\b(in|values|and|or|not)\("), r"\1 ("),
)
_LIST = re.compile(r"\?(?:, \?)+")
_ROWS = re.compile(r"(\([^()]*\))(?:, ?\1)+")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`text` is the statement without values, cut where it is long; `digest` names all statements of that text."""

    digest: str
    text: str


def fingerprint(statement: str) -> Fingerprint:
    """The same for statements that differ in values, in the length of lists, in spaces, comments and letter case."""
    text = " ".join(_tokens(statement[:_READ]))
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    text = _ROWS.sub(r"\1", _LIST.sub("?", text)).strip(" ;")
    digest = blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
    return Fingerprint(digest, text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def remembered_fingerprint(statement: str) -> Fingerprint:
    """The same, for the few that are shown every second: a long one takes ten milliseconds."""
    return _remembered(statement[:_READ])


_remembered = lru_cache(maxsize=64)(fingerprint)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        match match.lastgroup:
            case "block":
                at = _end_of_block(text, at)
            case "comment" | "space":
                pass
            case "value":
                yield "?"
            case "word":
                yield match.group().lower()
            case _:
                yield match.group()


def _end_of_block(text: str, at: int) -> int:
    """Where a comment ends that has just begun; Postgres lets them stand in each other."""
    depth = 1
    while depth:
        match = _BLOCK.search(text, at)
        if match is None:
            return len(text)
        depth += 1 if match.group() == "/*" else -1
        at = match.end()
    return at
