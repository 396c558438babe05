"""Bodies that came before, by which a question is known again without being read.

An alias is worth its room only while the answer to its question is kept. Most of a program's questions come once, so
without an end to them these would fill all the room that they have. What a question means is `policy`'s to say, and
whether there is an answer `store`'s.
"""

from collections import OrderedDict
from collections.abc import Callable

from sqlhttp_gateway.cache.policy import Asked, Question, Scope
from sqlhttp_gateway.model import Options

MAX_BODY = 4096
"""Bytes of a body that is recognized without being read."""
OVERHEAD = 1000
"""Bytes that an alias takes beside the texts in it: the objects around them and its place in the table."""
_Key = tuple[Scope, bool, bool, Asked, bytes]


class Aliases:
    """Questions by the bytes in which they came, and by who asked how."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._questions: OrderedDict[_Key, Question] = OrderedDict()
        self.size = 0
        """Bytes held, about."""

    def __len__(self) -> int:
        return len(self._questions)

    def find(self, scope: Scope, options: Options, asked: Asked, body: bytes) -> Question | None:
        """The question of a body that came before in exactly these bytes."""
        return self._questions.get((scope, options.raw_text, options.array_mode, asked, body))

    def remember(self, question: Question, options: Options, asked: Asked, body: bytes) -> None:
        """Recognize this body from now on; those that came first make room for it."""
        key = (question.scope, options.raw_text, options.array_mode, asked, body)
        size = _size(key)
        if len(body) > MAX_BODY or size > self._max_bytes:
            return
        self._forget(key)
        self._questions[key] = question
        self.size += size
        self._make_room()

    def forget_unless(self, is_kept: Callable[[bytes], bool]) -> None:
        """Only those remain whose question has a key that `is_kept` says yes to."""
        for key in [key for key, question in self._questions.items() if not is_kept(question.key)]:
            self._forget(key)

    def clear(self, max_bytes: int) -> None:
        """Begin anew, with so much room."""
        self._questions.clear()
        self.size = 0
        self._max_bytes = max_bytes

    def _forget(self, key: _Key) -> None:
        if self._questions.pop(key, None) is not None:
            self.size -= _size(key)

    def _make_room(self) -> None:
        while self.size > self._max_bytes:
            self._forget(next(iter(self._questions)))


def _size(key: _Key) -> int:
    scope, _, _, asked, body = key
    told = sum(len(part) for part in asked if part is not None)
    return 2 * len(body) + told + len(scope.claims) + OVERHEAD  # the question has the body's text and parameters again
