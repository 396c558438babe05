"""Positions in Postgres's write-ahead log (pg_lsn): their text, and what the gateway asks about them.

A position is an int here: the byte at which the log stands. Comparing two means something only on one timeline.
"""

import re

_FORM = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_SHORT_HEADER, _LONG_HEADER = 24, 40
_PAGE = 8192
"""XLOG_BLCKSZ, which only who compiles Postgres can change."""


def lsn_from_text(text: str) -> int:
    """The position that `16/B374D848` means.

    Raises:
        ValueError: it has another form.
    """
    if _FORM.fullmatch(text) is None:
        raise ValueError("a position in the log has the form 16/B374D848")
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def timeline_from_file(name: str) -> int:
    """The timeline in the name of a log file: its first eight hex digits."""
    return int(name[:8], 16)


def end_of_last_record(position: int, offset: int) -> int:
    """Where the last record ends, when the next one would be inserted at `position`, `offset` bytes into its file.

    On a page that holds no record yet the two differ by the page's header: a standby that has replayed everything
    stands in front of it, and nobody should wait for what may come an hour later.
    """
    if offset == _LONG_HEADER:
        return position - _LONG_HEADER
    if offset % _PAGE == _SHORT_HEADER:
        return position - _SHORT_HEADER
    return position
