"""What is known of a statement: what it reads and writes, and whether it would give the same again. Pure."""

from dataclasses import dataclass

from sqlhttp_gateway.wire.lexer import first_word, tokens_of

_QUERY = (b"select", b"with", b"values", b"table")
_CHANGE = (b"insert", b"update", b"delete", b"merge")
_IN_FRONT = (b"(", b";")
_NO_TABLE = (b"insert", b"merge")
"""What INTO stands behind where it makes no table."""

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Relations are "schema.name"."""

    reads: frozenset[str] | None = None
    """All that it reads; None: that, and perhaps any other of the database."""
    writes: frozenset[str] | None = None
    """All that it may write; None: perhaps any of the database."""
    refusals: tuple[tuple[str, str], ...] = (("unknown", ""),)
    """Why its answer is not the same again: (reason, what)."""

    @property
    def is_reading(self) -> bool:
        """It changes nothing and locks nothing, so that any server with the data can answer it."""
        return self.writes == NOTHING and not any(reason in ("locks", "unknown") for reason, _ in self.refusals)

    @property
    def writer(self) -> str:
        """A function in it that may change anything; "" for none."""
        return next((what for reason, what in self.refusals if reason == "writes"), "")

    def refusal(self, allow: frozenset[str]) -> str:
        """Why the answer may not be kept for a program that allows so much; "" if it may."""
        for reason, what in self.refusals:
            if reason not in allow:
                return f"{reason}:{what}" if what else reason
        return ""


UNKNOWN = Verdict()
"""Of what has no plan: it may do anything."""


def has_plan(text: str) -> bool:
    """Whether Postgres could explain it, as far as its beginning tells."""
    return _first_word(text) in _QUERY + _CHANGE


def makes_table(text: str) -> bool:
    """Whether it may be SELECT INTO, which is explained as if it were a plain SELECT."""
    if "into" not in text.lower() or _first_word(text) not in _QUERY:
        return False
    before = b""
    for token in tokens_of(text.encode(errors="surrogatepass")):
        word = token.value if token.kind == "word" else b""
        if word == b"into" and before not in _NO_TABLE:
            return True
        before = word
    return False


def _first_word(text: str) -> bytes:
    return first_word(text.encode(errors="surrogatepass"), behind=_IN_FRONT)
