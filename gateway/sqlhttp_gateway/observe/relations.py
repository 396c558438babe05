"""Which relations a statement names, from its text alone: tables and views, as they stand there, CTEs left out.

Made for the audit. It is no parser, and it knows no catalog: what a view or a function reaches is not told, nor is in
which schema of the search_path an unqualified name is found. A text that is no SQL names nothing of use.
"""

from collections.abc import Iterator

from sqlhttp_gateway.wire.lexer import Token, tokens_of

_READ = 20_000
"""Characters that are looked at, as for a fingerprint."""
_MOST = 50
_BEFORE = frozenset({b"from", b"join", b"into", b"update", b"table", b"using", b"truncate", b"copy"})
"""Words in front of a relation."""
_BETWEEN = frozenset({b"only", b"lateral", b"if", b"not", b"exists", b"table"})
"""Words that may stand between."""
_NO_RELATION = {b"from": {b"distinct"}, b"update": {b"for", b"do", b"key", b"on"}, b"table": {b"with", b"row"}}
"""After these a word in front of a relation is none."""
_SYNTAX = frozenset({b"extract", b"substring", b"trim", b"overlay", b"position"})
"""Functions in whose arguments FROM stands."""
_MAY_HAVE_COLUMNS = frozenset({b"into", b"table", b"copy"})
"""Where a parenthesis behind the name is no call of a function."""
_ENDS_LIST = frozenset(
    {b"where", b"group", b"order", b"having", b"limit", b"offset", b"fetch", b"for", b"window", b"on", b"set"}
    | {b"union", b"intersect", b"except", b"returning", b"values", b"select", b"when", b"cascade", b"restrict"}
)

_NO_NAMES = _ENDS_LIST | {b"stdin", b"program"}


def relations_of(statement: str) -> list[str]:
    """The names in their order, each once, unquoted ones in lower case; 50 at most."""
    tokens = list(tokens_of(statement[:_READ].encode(errors="replace")))
    names = set(_common_table_expressions(tokens))
    found = dict.fromkeys(name for name in _named(tokens) if name not in names)
    return [name.decode(errors="replace") for name in list(found)[:_MOST]]


def _named(tokens: list[Token]) -> Iterator[bytes]:
    openers: list[bytes] = []  # what stands in front of each open parenthesis
    lists = [b""]  # for each depth, the word whose list of relations is going on
    for at, token in enumerate(tokens):
        before = tokens[at - 1].value if at else b""
        if token.kind == "other":
            if token.value == b"(":
                openers.append(before)
                lists.append(b"")
            elif token.value == b")" and openers:
                openers.pop()
                lists.pop()
            elif token.value == b"," and lists[-1]:
                yield from _name(tokens, at + 1, lists[-1])
        elif token.kind == "word":
            if token.value in _ENDS_LIST:
                lists[-1] = b""
            if token.value in _BEFORE and _begins(token.value, before, openers):
                lists[-1] = token.value if token.value in {b"from", b"truncate", b"using"} else lists[-1]
                yield from _name(tokens, at + 1, token.value)


def _begins(word: bytes, before: bytes, openers: list[bytes]) -> bool:
    if before in _NO_RELATION.get(word, ()) or (word in {b"copy", b"truncate"} and before not in {b"", b";"}):
        return False
    return not (word == b"from" and openers and openers[-1] in _SYNTAX)


def _name(tokens: list[Token], at: int, word: bytes) -> Iterator[bytes]:
    """The qualified name at this place, unless it is a subquery or the call of a function."""
    while at < len(tokens) and tokens[at].kind == "word" and tokens[at].value in _BETWEEN:
        at += 1
    parts = []
    while at < len(tokens) and tokens[at].kind in {"word", "name"}:
        parts.append(tokens[at].value)
        at += 1
        if at >= len(tokens) or tokens[at].value != b"." or tokens[at].kind != "other":
            break
        at += 1
    is_call = at < len(tokens) and tokens[at].kind == "other" and tokens[at].value == b"("
    if parts and parts[0] not in _NO_NAMES and not (is_call and word not in _MAY_HAVE_COLUMNS):
        yield b".".join(parts)


def _common_table_expressions(tokens: list[Token]) -> Iterator[bytes]:
    """Every `name [(columns)] AS [[NOT] MATERIALIZED] (`."""
    if not any(token.value == b"with" for token in tokens):
        return
    for at, token in enumerate(tokens):
        if token.kind != "word" or token.value != b"as":
            continue
        after = [each.value for each in tokens[at + 1 : at + 4]]
        while after and after[0] in {b"not", b"materialized"}:
            after.pop(0)
        if after[:1] != [b"("]:
            continue
        start = at - 1
        if start >= 0 and tokens[start].value == b")":
            while start >= 0 and tokens[start].value != b"(":
                start -= 1
            start -= 1
        if start >= 0 and tokens[start].kind in {"word", "name"}:
            yield tokens[start].value
