"""A text of SQL becomes words, names, strings, digits and single characters, and is cut into its statements.

A small lexer, not a parser: it knows where strings, names and comments end. It takes
standard_conforming_strings for on, so whoever must not be deceived must not rest on it alone (see `fence`).

Texts are bytes in the program's encoding. Every keyword is ASCII, and so is every quote in each encoding Postgres
takes from a program.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

_ESCAPED = rb"""
    [eE]'(?: [^'\\]++ | \\. | '' )*+
    (?: '(?: [ \t\f\v]++ | --[^\n\r]*+ )*+ [\n\r] (?: [ \t\n\r\f\v]++ | --[^\n\r]*+[\n\r] )*
        '(?: [^'\\]++ | \\. | '' )*+
    )* '?
"""
"""A string with backslashes. What follows it behind a new line is more of it, and not a string of its own, in which a
backslash would mean nothing."""
_TOKEN = re.compile(
    rb"""
      (?P<blank>   (?: [ \t\n\r\f\v]++ | --[^\n\r]*+ )++ )
    | (?P<comment> /\* )
    | (?P<string>  """
    + _ESCAPED
    + rb""" | (?: [nNbBxX] | [uU]& )?'(?: [^']++ | '' )*+'? )
    | (?P<quoted>  (?: [uU]& )?"(?: [^"]++ | "" )*+"? )
    | (?P<dollar>  \$ (?: [A-Za-z_\x80-\xff] [A-Za-z0-9_\x80-\xff]*+ )? \$ )
    | (?P<word>    [A-Za-z_\x80-\xff] [A-Za-z0-9_$\x80-\xff]*+ )
    | (?P<other>   [0-9]++ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_RUN = re.compile(
    rb"""
    (?: [ \t\n\r\f\v]++ | --[^\n\r]*+
      | """
    + _ESCAPED
    + rb""" | (?: [nNbBxX] | [uU]& )?'(?: [^']++ | '' )*+'?
      | (?: [uU]& )?"(?: [^"]++ | "" )*+"?
      | [A-Za-z_\x80-\xff] [A-Za-z0-9_$\x80-\xff]*+
      | [^;$/]
    )++
    """,
    re.VERBOSE | re.DOTALL,
)
"""As many of them as there are up to a semicolon, or what may begin a comment or a string between dollars.

Python before 3.11.5 forgets, where a possessive group comes to its end, to go back over what its last try has read. So
none here has anything in it that can fail behind its beginning.
"""
_COMMENT_EDGE = re.compile(rb"/\*|\*/")

_SEMICOLON = ord(";")


@dataclass(frozen=True, slots=True)
class Token:
    """One of them, and where in the text it ends."""

    kind: str  # word, name (quoted), string, other: a sign or some digits
    value: bytes  # a word in lower case; a quoted name or string without its quotes
    end: int = field(default=0, compare=False)


def tokens_of(text: bytes) -> Iterator[Token]:
    """All that is no blank and no comment."""
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        value = match.group()
        match match.lastgroup:
            case "word":
                yield Token("word", value.lower(), position)
            case "quoted":
                name = value[value.index(b'"') + 1 :].removesuffix(b'"').replace(b'""', b'"')
                yield Token("name", name, position)
            case "string":
                string = value[value.index(b"'") + 1 :].removesuffix(b"'").replace(b"''", b"'")
                yield Token("string", string, position)
            case "dollar":
                end = text.find(value, position)
                end = len(text) if end < 0 else end
                start, position = position, end + len(value)
                yield Token("string", text[start:end], position)
            case "comment":
                position = _after_comment(text, position)
            case "other":
                yield Token("other", value, position)


def statements_of(text: bytes) -> Iterator[list[Token]]:
    """The tokens of each statement that is not empty."""
    statement: list[Token] = []
    for token in tokens_of(text):
        if token.kind == "other" and token.value == b";":
            if statement:
                yield statement
            statement = []
        else:
            statement.append(token)
    if statement:
        yield statement


def pieces_of(text: bytes) -> Iterator[bytes]:
    """The text of each of `statements_of`, empty ones too: a hundred times as fast, as no token is made."""
    start = position = 0
    while position < len(text):
        if (run := _RUN.match(text, position)) is not None:
            position = run.end()
        elif text[position] == _SEMICOLON:
            yield text[start:position]
            start = position = position + 1
        else:  # a comment, a string between dollars, or the sign alone
            token = _TOKEN.match(text, position)
            assert token is not None
            position = token.end()
            if token.lastgroup == "comment":
                position = _after_comment(text, position)
            elif token.lastgroup == "dollar":
                end = text.find(token.group(), position)
                position = len(text) if end < 0 else end + len(token.group())
    yield text[start:]


def first_word(text: bytes, *, behind: Collection[bytes] = (b";",)) -> bytes:
    """The word that the first statement begins with, in lower case; empty where that is something else.

    `behind` are the characters that may stand in front of it.
    """
    for token in tokens_of(text):
        if token.kind != "other" or token.value not in behind:
            return token.value if token.kind == "word" else b""
    return b""


def split_statements(text: bytes) -> list[bytes]:
    """The texts of its statements, without the empty ones; a semicolon within parentheses does not end one."""
    texts, start, depth, is_empty = [], 0, 0, True
    for token in tokens_of(text):
        if token.kind == "other" and token.value in b"();":
            depth += {b"(": 1, b")": -1}.get(token.value, 0)
            if token.value == b";" and depth <= 0:
                if not is_empty:
                    texts.append(text[start : token.end - 1])
                start, is_empty = token.end, True
                continue
        is_empty = False
    if not is_empty:
        texts.append(text[start:])
    return texts


def _after_comment(text: bytes, position: int) -> int:
    depth = 1  # comments nest in Postgres
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == b"/*" else -1
        position = edge.end()
    return position
