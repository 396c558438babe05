"""Rows of a large answer become JSON while they arrive, a piece for each chunk of bytes.

How is told in `neon.row_pieces`. The last row of a chunk, of which nobody knows yet whether it is whole, and whatever
else is not found there, is walked over by whoever reads the answer, and comes back by `keep`.
"""

from collections.abc import Sequence

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.model import ReadRows
from sqlhttp_gateway.neon.fields import describe
from sqlhttp_gateway.neon.row_pieces import RowPieces
from sqlhttp_gateway.neon.rows import encode_rows_walking
from sqlhttp_gateway.neon.rows_by_pattern import WIDE
from sqlhttp_gateway.neon.values import Converter


class ArrivingRows:
    """The rows of one result, as far as they have come."""

    __slots__ = ("_array_mode", "_converters", "_fault", "_names", "_taken")

    def __init__(
        self, names: Sequence[str], converters: Sequence[Converter | None] | None, *, array_mode: bool
    ) -> None:
        """The arguments are those of `encode_rows`; there is at least one column."""
        self._names = names
        self._converters = converters
        self._array_mode = array_mode
        self._taken = RowPieces(names, converters, array_mode=array_mode)
        self._fault: GatewayError | None = None

    def read(self, data: bytes, start: int) -> tuple[int, int]:
        """How many whole rows were taken from `start` on, and where they end. A DataRow begins at `start`."""
        return self._taken.read(data, start) if self._fault is None else (0, start)

    def keep(self, rows: bytes, count: int) -> None:
        """Take rows that were walked: so many whole DataRow messages."""
        if self._fault is not None:
            return
        taken, end = self._taken.read(rows, 0, is_all=True)
        if taken == count and end == len(rows):
            return
        try:
            encoded = encode_rows_walking(
                rows[end:], count - taken, names=self._names, converters=self._converters, array_mode=self._array_mode
            )
        except GatewayError as error:
            # Told when the answer is asked for: the statement goes on to its end, as that of few rows does.
            self._fault = error
            self._taken.clear()
        else:
            self._taken.append(encoded)

    def json(self) -> list[bytes | memoryview]:
        """The JSON array of all rows, in pieces.

        Raises:
            ResultUnreadable, RemoteProtocolError: as `encode_rows`.
        """
        if self._fault is not None:
            raise self._fault
        return self._taken.json()


def _reading(*, array_mode: bool, raw_text: bool) -> ReadRows:
    def begin(description: bytes) -> ArrivingRows | None:
        described = describe(description)
        names = described.names
        # Compiling a pattern for more takes milliseconds, so wider rows are kept until all of them are there.
        if not 0 < len(names) <= WIDE or (not raw_text and described.converters is None):
            return None
        return ArrivingRows(names, None if raw_text else described.converters, array_mode=array_mode)

    return begin


READINGS = {
    (array_mode, raw_text): _reading(array_mode=array_mode, raw_text=raw_text)
    for array_mode in (True, False)
    for raw_text in (True, False)
}
"""What begins to read a result's rows, given the body of its RowDescription, by whether rows are arrays and values
Postgres's own text. It gives None where rows are better kept until all of them are there."""
