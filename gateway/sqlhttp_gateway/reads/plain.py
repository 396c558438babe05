"""A text as names are looked for in it: without comments, and with what it has in quotes set apart. Pure."""

from collections.abc import Callable

from sqlhttp_gateway.wire.lexer import tokens_of


def plain_text(text: bytes, literal: Callable[[bytes], str]) -> str:
    """It without comments, words in lower case, and no blank in front of a parenthesis.

    `literal` says what stands in place of a string, whose content it is given.
    """
    parts = []
    for token in tokens_of(text):
        if token.kind == "string":
            parts.append(literal(token.value))
            continue
        value = token.value.decode(errors="replace")
        match token.kind:
            case "word":
                parts.append(" " + value)
            case "name":
                parts.append(' "' + value.replace('"', '""') + '"')
            case _:
                parts.append(value)
    return "".join(parts)
