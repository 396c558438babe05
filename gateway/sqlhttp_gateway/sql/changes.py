"""What a statement that ran without the cache ends in it: the answers that rest on what it changed.

As long as nobody has asked the cache for anything, nothing needs to be noted, and `used` is all that a request looks
at: once before its statement and, since a fetch may begin meanwhile, once behind it.
"""

import asyncio
import re
from collections.abc import Sequence

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.stamps import Place
from sqlhttp_gateway.cached import CachedAnswers, RunReading, scope_of
from sqlhttp_gateway.errors import GatewayError, HasRun, PostgresError
from sqlhttp_gateway.model import Batch, Result, Statement
from sqlhttp_gateway.reads.verdict import NOTHING, UNKNOWN, Verdict, has_plan

_HARMLESS_TAGS = frozenset(
    {
        *("SHOW", "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "LOCK"),
        *("LISTEN", "UNLISTEN", "NOTIFY", "DISCARD", "DEALLOCATE", "CLOSE", "ANALYZE", "VACUUM", "CHECKPOINT"),
    }
)
"""First words of the command tags of what changes no table. EXPLAIN is not among them, since it may run things."""
_PREPARED = "COMMIT PREPARED"
"""What another transaction has prepared is seen from now on."""
_CHANGE_TAGS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})
_SETTING = re.compile(r"set_config|pg_settings|u&\"", re.IGNORECASE)
"""What changes a setting without SET, or may be hidden behind escapes."""
_ENDED = ("57P", "08")
"""Codes of a server that ends a connection, whatever it was at."""


class Changes:
    """Tells the cache what has changed."""

    def __init__(self, cached: CachedAnswers, *, settle_after: float = 10.0) -> None:
        self._cached = cached
        self._cache = cached.cache
        self.settle_after = settle_after
        """Seconds after which what was cancelled is over for sure."""
        self.used = cached.cache.stamps.used
        """One number, 0 as long as no answer was ever kept, by this worker or by anybody with whom it shares them."""

    def concern(self, caller: Caller) -> bool:
        """Whether it matters here what the caller's statements change."""
        return bool(self.used[0]) and self._cache.is_kept((caller.target, caller.database))

    def must_note(self, caller: Caller, request: Statement | Batch) -> bool:
        """Whether it matters here what the request changes, unless it is known to change nothing."""
        if not self.concern(caller):
            return False
        if isinstance(request, Batch):
            # As in `_end`: behind a setting a statement may not be the one that is known.
            if any(_SETTING.search(each.text) for each in request.statements):
                return True
            return any(self.must_note(caller, each) for each in request.statements)
        verdict = self._cached.recall(scope_of(caller), request)
        return verdict is None or verdict.writes != NOTHING

    async def ran(self, caller: Caller, request: Statement | Batch, results: list[Result], run: RunReading) -> None:
        """A request has run: end what rests on what it changed, before anybody is told that it did.

        The relations of a change are asked of its plan. Where they cannot be told, all answers of the database end.
        """
        try:
            await self._end(caller, request, results, run)
        except BaseException:  # whoever asked has gone, and the change has not
            self.end_everything((caller.target, caller.database))
            raise

    async def ran_elsewhere(self, caller: Caller) -> None:
        """Something of the caller's has run, and perhaps nobody was left to tell what it changed."""
        await self._spread(self._cache.schema_changed((caller.target, caller.database)))

    def ran_unnoted(self, caller: Caller, request: Statement | Batch) -> None:
        """A request has run that did not have to be noted when it began."""
        if self.must_note(caller, request):
            self.end_everything((caller.target, caller.database))

    def failed(self, caller: Caller, request: Statement | Batch, error: BaseException) -> None:
        """A request has not got to its end, or nobody knows whether it has."""
        place = caller.target, caller.database
        if not self.concern(caller) or not _may_have_changed(request, error):
            return
        self.end_everything(place)
        if not isinstance(error, PostgresError):
            # What was cancelled can still commit before the cancel arrives.
            asyncio.get_running_loop().call_later(self.settle_after, self.end_everything, place)

    def end_everything(self, place: Place) -> None:
        """Anything in a database may be different; others are told as soon as that is possible."""
        self.tell(self._cache.schema_changed(place))

    def tell(self, buckets: Sequence[int]) -> None:
        """Others who share the answers get to know what has ended here, as soon as that is possible."""
        if self._cached.shared is not None:
            self._cached.shared.end_soon(buckets)

    # ── inside ──

    async def _end(self, caller: Caller, request: Statement | Batch, results: list[Result], run: RunReading) -> None:
        place = caller.target, caller.database
        statements = request.statements if isinstance(request, Batch) else (request,)
        tags = [result.tag.decode() if result.tag is not None else "" for result in results]
        words = [tag if tag == _PREPARED else tag.partition(" ")[0] for tag in tags]
        # SET LOCAL search_path, or SET ROLE, and a name in the next statement means another table.
        is_plain = not any(word in ("SET", "RESET") for word in words)
        is_plain = is_plain and (len(words) == 1 or not any(_SETTING.search(each.text) for each in statements))
        for statement, word in zip(statements, words, strict=False):
            if not word or word in _HARMLESS_TAGS:
                continue
            verdict = await self._verdict(caller, statement, run) if word in _CHANGE_TAGS and is_plain else UNKNOWN
            if verdict is UNKNOWN or verdict.writer:  # a function may have changed more than rows
                await self._spread(self._cache.schema_changed(place))
                return
            if verdict.writes != NOTHING:
                await self._spread(self._cache.changed(place, verdict.writes))

    async def _spread(self, buckets: list[int]) -> None:
        if self._cached.shared is not None:
            await self._cached.shared.end(buckets)

    async def _verdict(self, caller: Caller, statement: Statement, run: RunReading) -> Verdict:
        """What a statement reads and writes, asked after it has run."""
        scope = scope_of(caller)
        verdict = self._cached.recall_worst(scope, statement) or self._cached.recall(scope, statement)
        if verdict is not None:
            return verdict
        try:
            return await self._cached.ask(scope, statement, run)
        except GatewayError:
            return UNKNOWN


def _may_have_changed(request: Statement | Batch, error: BaseException) -> bool:
    """Whether something of a failed request may have stayed."""
    if isinstance(error, GatewayError) and error.ran is HasRun.YES:
        return True
    if isinstance(error, PostgresError):
        if error.code.startswith(_ENDED):
            return True  # a COMMIT that waits for a standby has taken effect by then
        # Only what has no plan, CALL, DO or COMMIT, can have committed a part of itself.
        statements = request.statements if isinstance(request, Batch) else (request,)
        return not all(has_plan(statement.text) for statement in statements)
    if isinstance(error, GatewayError):
        return error.may_have_run
    return True
