"""Which prepared statements one connection holds, so that a text seen before is not parsed again.

Named by a counter and never reused: a name that went missing on the server can only be an old one.

Postgres notices that a table has changed, and plans anew, but for the types of parameters: those stay what Parse has
found. A value for a `date` that has become a `timestamp` would go on losing its time, without a word. So what has
parameters is parsed again every few seconds.
"""

from collections.abc import Sequence

from sqlhttp_gateway.wire.control import Control, control_of
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.frontend import bind_head, encode_close_statement
from sqlhttp_gateway.wire.meaning import changes_meaning, is_of_its_moment

MAX_TEXT = 16_384
"""Longer texts are parsed each time, so that a few generated statements cannot fill the server's memory."""
_OF_ONE_REQUEST = "traceparent='"
"""In a comment, by `trace.comment` or by whoever follows sqlcommenter: another one in every request."""


class Prepared:
    """A statement that the connection holds under `name`, and what its answer will probably begin with."""

    __slots__ = ("bind_head", "changes_meaning", "foreseen", "is_old", "name")

    def __init__(self, text: str, name: bytes) -> None:
        self.name = name
        self.is_old = False
        """It has parameters and is older than the last `Statements.age`."""
        self.changes_meaning = changes_meaning(text)
        self.bind_head = bind_head(name)
        self.foreseen: Foreseen | None = None


class Statements:
    """A least-recently-used map from SQL text to the name of its prepared statement on one connection."""

    __slots__ = ("_counter", "_names", "_size", "closing")

    def __init__(self, size: int) -> None:
        """At most `size` statements; 0 keeps none."""
        self._size = size
        self._names: dict[str, Prepared] = {}
        self._counter = 0
        self.closing: list[bytes] = []
        """Names of statements that were pushed out, for `take_closing`; to be read only."""

    def __len__(self) -> int:
        return len(self._names)

    def find(self, text: str) -> bytes | None:
        """The name under which `text` is prepared, if it is."""
        prepared = self.prepared(text)
        return None if prepared is None else prepared.name

    def prepared(self, text: str) -> Prepared | None:
        """What `text` is prepared as, if it is."""
        prepared = self._names.pop(text, None)
        if prepared is not None:
            self._names[text] = prepared  # now the most recently used
        return prepared

    def of_transaction(self, texts: Sequence[str]) -> tuple[list[Prepared | None], bool]:
        """What each text of one transaction is prepared as, and whether those that are not may be kept.

        None is, and none may be, where one of them changes what a text means when it is parsed. None may be of more
        than there is room for: all of them would be in the server's memory at once.
        """
        prepared = [self.prepared(text) for text in texts]
        for text, known in zip(texts, prepared, strict=True):
            if self._size and (changes_meaning(text) if known is None else known.changes_meaning):
                return [None] * len(prepared), False
        return prepared, len(prepared) <= self._size or len(set(texts)) <= self._size

    def new_name(self, text: str) -> bytes:
        """A name to parse `text` under; empty, the unnamed statement, for one that is not to be kept."""
        if not self._size or len(text) > MAX_TEXT or is_of_its_moment(text):
            return b""
        if _OF_ONE_REQUEST in text:  # never seen again, and would push out one that is
            return b""
        if control_of(text.encode()) is Control.CHAIN:  # by its name SQL's EXECUTE could run it behind a fence's back
            return b""
        self._counter += 1
        return b"sqlhttp_%d" % self._counter

    def add(self, text: str, name: bytes) -> None:
        """Postgres has parsed `text` as `name`."""
        if not name:
            return
        known = self._names.pop(text, None)
        if known is not None:
            self.closing.append(known.name)
        self._names[text] = Prepared(text, name)
        while len(self._names) > self._size:
            oldest = next(iter(self._names))
            self.closing.append(self._names.pop(oldest).name)

    def drop(self, text: str) -> None:
        """What `text` was prepared as is out of date."""
        prepared = self._names.pop(text, None)
        if prepared is not None:
            self.closing.append(prepared.name)

    def age(self) -> None:
        """Drop what has parameters and was parsed before the last `age`; to be called now and then.

        A text with a `$` that is no parameter's is dropped with them, which costs a Parse.
        """
        for text in [text for text, prepared in self._names.items() if prepared.is_old]:
            self.drop(text)
        for text, prepared in self._names.items():
            prepared.is_old = "$" in text

    def take_closing(self) -> bytes:
        """Close messages for the statements that were pushed out; to be sent before anything that can fail."""
        if not self.closing:
            return b""
        frames = b"".join(encode_close_statement(name) for name in self.closing)
        self.closing.clear()
        return frames

    def forget(self) -> None:
        """The server has dropped all of them."""
        self._names.clear()
        self.closing.clear()
