"""What rows go through on their way to JSON, however they were read.

Their texts are in guise: each character is one byte of UTF-8, so that nothing is decoded before the end.
"""

from collections.abc import Sequence
from typing import Any

from sqlhttp_gateway.errors import ResultUnreadable
from sqlhttp_gateway.neon.values import Converter

Row = Sequence[Any]
Taken = tuple[int, int, bytes]
"""How many rows were taken, how many bytes of Postgres's they are, and their JSON array."""


def converted(rows: Sequence[Row], converters: Sequence[Converter | None], *, null: str | None) -> list[Row]:
    """The rows with every column that has a converter sent through it, column by column; `null` is NULL's text.

    Raises:
        ResultUnreadable: a text is not what its type looks like.
    """
    if not rows or not converters:
        return list(rows)  # nothing can be turned into columns and back where either is missing
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for index, convert in enumerate(converters):
        if convert is None:
            continue
        try:
            columns[index] = [None if text == null else convert(text) for text in columns[index]]
        except ValueError:
            # The text could be anybody's data, so only its place is told.
            raise ResultUnreadable(
                f"could not parse postgres response: a value in column {index + 1} is not of the column's type"
            ) from None
    return list(zip(*columns, strict=True))


def undisguised(encoded: bytes) -> bytes | None:
    """JSON whose texts are in guise, without it; None when their bytes are no UTF-8."""
    encoded = encoded.decode().encode("latin-1")
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return None
    return encoded
