"""What a tunnel's statements end in the result cache.

The cache learns of a change before the program does: by the command tags that Postgres sends, looked for in the bytes
as they pass. A tag that is found where none is, such as in a row, ends answers that need not have ended. Which tables
were changed is not asked here: all answers of the database end, again at every step until the transaction is over.

A SELECT changes tables only by a function or by a change within WITH. A program that has sent a text with either, or
calls a function that is not known here to change nothing, has its reads taken for changes from then on. What stays
unseen is a view or an operator of a user that hides a function which writes.
"""

import asyncio
import re
from collections.abc import Callable, Sequence

from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.stamps import Place

Tell = Callable[[Sequence[int]], None]
_TAIL = 160
"""Bytes of one chunk that are looked at again with the next, since a word may be cut in two."""
_IDLE = b"Z\0\0\0\x05I"
_TAG = re.compile(rb"C\0\0\0[\x06-\x7f](COMMIT PREPARED|[A-Z]+)[ \0]")
"""The first word, but where the second makes a change of it: what another transaction has prepared is seen now."""
_READING = frozenset((b"SELECT", b"FETCH", b"DECLARE", b"MOVE"))
_HARMLESS = frozenset(
    {
        *(b"SHOW", b"BEGIN", b"START", b"COMMIT", b"ROLLBACK", b"SAVEPOINT", b"RELEASE", b"SET", b"RESET", b"LOCK"),
        *(b"LISTEN", b"UNLISTEN", b"NOTIFY", b"DISCARD", b"DEALLOCATE", b"PREPARE", b"CLOSE", b"ANALYZE", b"VACUUM"),
    }
)
# Each of these looks at a byte once: what is sent may be one word of a megabyte, such as a file in base64.
_WITH = re.compile(rb"\bwith\b", re.IGNORECASE)
_CHANGE = re.compile(rb"\b(?:insert|update|delete|merge)\b", re.IGNORECASE)
_CREATE = re.compile(rb"\bcreate\b", re.IGNORECASE)
"""CREATE TABLE AS, whose tag is SELECT."""
_CALL = re.compile(
    rb'(?:\bpg_catalog\s*+\.\s*+|(\.)\s*+)?(?:"([^"\0]++)"|(?<![\w$\x80-\xff])([A-Za-z_\x80-\xff][\w$\x80-\xff]*+))\s*+\('
)
"""A name in front of a parenthesis; one in another schema than Postgres's own is never known."""
_CALLED = re.compile(rb"V\0[\0-\x3f][\0-\xff]{2}(?:\xff\xff\xff\xff|\0)")
"""FunctionCallResponse: a function was run without SQL, and there is no tag."""
_KNOWN = frozenset(
    {
        # Words of SQL and types that stand in front of a parenthesis.
        *(b"all", b"and", b"any", b"array", b"as", b"by", b"case", b"cast", b"char", b"check", b"cube", b"decimal"),
        *(b"distinct", b"else", b"except", b"exists", b"filter", b"float", b"from", b"group", b"having", b"in"),
        *(b"intersect", b"interval", b"into", b"is", b"join", b"lateral", b"like", b"limit", b"not", b"numeric"),
        *(b"offset", b"on", b"only", b"or", b"order", b"over", b"partition", b"returning", b"rollup", b"row", b"rows"),
        *(b"select", b"set", b"sets", b"some", b"then", b"time", b"timestamp", b"timestamptz", b"union", b"using"),
        *(b"values", b"varchar", b"varying", b"when", b"where", b"window", b"with", b"within", b"materialized"),
        # Functions of Postgres that change no table.
        *(b"abs", b"age", b"array_agg", b"array_length", b"array_position", b"array_remove", b"array_to_string"),
        *(b"avg", b"bool_and", b"bool_or", b"btrim", b"cardinality", b"ceil", b"coalesce", b"col_description"),
        *(b"concat", b"concat_ws", b"count", b"cume_dist", b"current_database", b"current_schema"),
        *(b"current_setting", b"date", b"date_part", b"date_trunc", b"dense_rank", b"every", b"extract"),
        *(b"first_value", b"floor", b"format", b"format_type", b"generate_series", b"greatest", b"initcap"),
        *(b"json_agg", b"json_build_array", b"json_build_object", b"json_object_agg", b"jsonb_agg"),
        *(b"jsonb_array_elements", b"jsonb_build_array", b"jsonb_build_object", b"jsonb_object_agg"),
        *(b"json_array_elements", b"json_each", b"jsonb_each", b"lag", b"last_value", b"lead", b"least", b"left"),
        *(b"length", b"lower", b"lpad", b"ltrim", b"max", b"md5", b"min", b"mod", b"now", b"ntile", b"nullif"),
        *(b"obj_description", b"octet_length", b"percent_rank", b"percentile_cont", b"pg_get_expr"),
        *(b"pg_get_constraintdef", b"pg_get_indexdef", b"pg_get_viewdef", b"pg_sleep", b"pg_typeof", b"position"),
        *(b"power", b"quote_ident", b"quote_literal", b"random", b"rank", b"regexp_matches", b"regexp_replace"),
        *(b"repeat", b"replace", b"reverse", b"right", b"round", b"row_number", b"row_to_json", b"rpad", b"rtrim"),
        *(b"set_config", b"similarity", b"sign", b"split_part", b"sqrt", b"stddev", b"string_agg"),
        *(b"string_to_array", b"strpos", b"substr", b"substring", b"sum", b"to_char", b"to_date", b"to_json"),
        *(b"to_jsonb", b"to_number", b"to_regclass", b"to_timestamp", b"to_tsquery", b"to_tsvector", b"trim"),
        *(b"trunc", b"ts_rank", b"unnest", b"upper", b"variance", b"version", b"plainto_tsquery"),
    }
)


class Changes:
    """One tunnel's."""

    def __init__(
        self,
        cache: ResultCache,
        place: Place,
        tell: Tell = lambda buckets: None,
        *,
        settles_after: Callable[[], float] = lambda: 10.0,
    ) -> None:
        """`tell` is told which buckets ended, for whoever shares the answers. What a program leaves in the middle is
        over for sure when it `settles_after` so many seconds.
        """
        self._cache = cache
        self._tell = tell
        self._settles_after = settles_after
        self._place = place
        self._is_suspect = False
        """Whether a text was sent whose reads may be changes."""
        self._is_blind = False
        """Whether texts have passed unread, when nothing was kept anywhere yet."""
        self._is_changing = False
        self._is_in_with = False
        """The last of what was sent is in the middle of a text that has a WITH."""
        self._sent = self._said = b""

    def sent(self, data: bytes) -> None:
        """The program has sent this."""
        if self._is_suspect:
            return
        if not self._cache.is_used:
            self._is_blind = True
            return
        if self._is_blind:
            self._is_suspect = True
            return
        text = self._sent + data
        self._sent = text[-_TAIL:]
        self._is_suspect = (
            self._changes_within(text)
            or _CREATE.search(text) is not None
            or any(
                match[1] is not None or (match[2] or match[3]).lower() not in _KNOWN for match in _CALL.finditer(text)
            )
        )

    def said(self, data: bytes) -> None:
        """Postgres has said this, and the program does not know it yet."""
        if not self._cache.is_used:
            self._is_changing = not data.endswith(_IDLE)
            return
        before = len(self._said)
        text = self._said + data
        self._said = text[-_TAIL:]
        if not self._is_changing:
            self._is_changing = _CALLED.search(text) is not None or any(
                match.end() > before and self._changes(match[1]) for match in _TAG.finditer(text)
            )
        if self._is_changing:
            if self._cache.is_kept(self._place):
                self._end()
            if data.endswith(_IDLE):
                self._is_changing = False

    def left(self, *, is_busy: bool) -> None:
        """The program has left, or the backend has: what was under way may still be committed.

        While it `is_busy` something was asked that Postgres has not answered yet, a change for all that is known.
        """
        if self._is_changing or (is_busy and self._cache.is_used):
            self._end()
            asyncio.get_running_loop().call_later(self._settles_after(), self._end)

    def _end(self) -> None:
        self._tell(self._cache.schema_changed(self._place))

    def _changes_within(self, data: bytes) -> bool:
        """Whether a text has a change behind a WITH; it may have begun in what was sent before."""
        for part in data.split(b"\0"):
            match = None if self._is_in_with else _WITH.search(part)
            begins = 0 if match is None else match.end()
            self._is_in_with = self._is_in_with or match is not None
            if self._is_in_with and _CHANGE.search(part, begins) is not None:
                return True
            is_in_with, self._is_in_with = self._is_in_with, False
        self._is_in_with = is_in_with  # the last part goes on with what comes next
        return False

    def _changes(self, tag: bytes) -> bool:
        return tag not in _HARMLESS and (self._is_suspect or tag not in _READING)
