"""Bodies that begin as one did that came before: of them only the parameters are read.

Programs send few texts and many parameters. In `{"query":"SELECT …","params":["1"]}` all that stands in front of
`"params":` is then the same bytes, and once the rest has been read as one JSON array, nothing is left that could mean
something else. What `neon.request` says of a body is the rule; here is only what comes of it for such a one.

Measured: 0.5 µs instead of 2.2.
"""

from collections.abc import Callable
from typing import Final

import orjson

from sqlhttp_gateway.model import Statement
from sqlhttp_gateway.neon.request import MAX_PARAMS

MOST: Final = 512
"""Beginnings that are known at once."""
MOST_BYTES: Final = 4096
"""Bytes of one."""
_PARAMS: Final = b'"params":'
_AFTER: Final = len(_PARAMS)
_BRACE: Final = b"}"[0]
_loads: Final = orjson.loads
_new: Final = tuple.__new__
"""Makes a NamedTuple of its values, twice as fast as its own name does."""


class Bodies:
    """The beginnings that came before, with their texts."""

    __slots__ = ("_accepts", "_texts")

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        """Only texts that `accepts` says yes to are remembered, so that whoever gets one need not ask that again."""
        self._accepts = accepts
        self._texts: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def read(self, body: bytes) -> Statement | None:
        """The statement of a body with a known beginning and nothing but texts for parameters; None says nothing."""
        at = body.find(_PARAMS)  # in a string its quotes would be escaped
        if not 0 < at <= MOST_BYTES:
            return None
        text = self._texts.get(body[:at])
        if text is None or body[-1] != _BRACE:
            return None
        try:
            values = _loads(body[at + _AFTER : -1])
        except orjson.JSONDecodeError:
            return None
        if type(values) is not list:
            return None
        if len(values) == 1:  # a lookup by key
            value = values[0]
            return _new(Statement, (text, (value.encode(),), None)) if type(value) is str else None
        params = tuple([value.encode() for value in values if type(value) is str])
        return Statement(text, params) if len(params) == len(values) <= MAX_PARAMS else None

    def remember(self, body: bytes, text: str) -> None:
        """Know this body's beginning from now on, if nothing but `text` can be meant by it."""
        at = body.find(_PARAMS)
        beginning = body[: max(0, at)]
        if (
            not 0 < at <= MOST_BYTES
            or beginning.count(b'"query"') != 1
            or b"\\u00" in beginning  # a member's name may be hidden behind it
            or not self._accepts(text)
        ):
            return
        try:
            if orjson.loads(beginning + b'"params":[]}') != {"query": text, "params": []}:
                return
        except orjson.JSONDecodeError:
            return
        if len(self._texts) >= MOST:
            self._texts.clear()
        self._texts[beginning] = text
