"""Requests that ask for the cache: answered from it, fetched into it, or sent on with a word why not.

`service` says how a statement is run as its caller. Here is when that is needed, and for whom it is done at once. What
a statement that ran without the cache ends in it is known to `sql.changes`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.policy import Asked, Question, Scope
from sqlhttp_gateway.cache.results import Found, ResultCache
from sqlhttp_gateway.cache.shared import Shared, SharedStore
from sqlhttp_gateway.cache.stamps import Place
from sqlhttp_gateway.cache.store import Entry
from sqlhttp_gateway.errors import NotCached, PostgresError, ResponseTooLarge
from sqlhttp_gateway.events import Cached, Observer
from sqlhttp_gateway.model import Batch, Bookmark, Options, Result, Statement, TransactionOptions
from sqlhttp_gateway.neon.bookmark import BOOKMARK, encode_bookmark
from sqlhttp_gateway.neon.caching import AGE, CACHE_STATUS, encode_status
from sqlhttp_gateway.reads.verdict import UNKNOWN, Verdict
from sqlhttp_gateway.reads.verdicts import Key, Verdicts
from sqlhttp_gateway.reply import Headers


class Fetched(NamedTuple):
    """An answer as Postgres gave it."""

    body: bytes
    """The reply's."""
    row_count: int
    since: Bookmark | None = None
    """Where a target has several servers: it shows all up to this bookmark,"""
    seen: Bookmark | None = None
    """and nothing beyond this one."""


Fetch = Callable[[], Awaitable[Fetched]]
"""Runs the question's statement in a READ ONLY transaction."""
RunReading = Callable[[Batch, Options], Awaitable[list[Result]]]
"""Runs statements in one READ ONLY transaction, as whoever asks."""

READING = Options(raw_text=True, array_mode=True, transaction=TransactionOptions(read_only=True))
"""How the gateway asks about a statement."""
_WROTE_IN_READ_ONLY = "25006"
_NO_MORE = ("28", "3D", "3F", "42")
"""Classes of codes by which Postgres refuses a statement itself: a privilege was taken away, a table is gone."""
_CLOCK_ERROR = 50_000_000
"""Nanoseconds by which the age of another gateway's answer may be off."""
_READY_WAIT = 0.2
"""Seconds; what is fetched before the gateway listens would end when it does."""
_SWEEP_EVERY = 10.0
_RETRY_AFTER = 1_000_000_000
"""Nanoseconds between two tries to refresh an answer when the first failed."""


class Outcome(NamedTuple):
    """What became of a question. Without an `entry` the request runs as if there were no cache."""

    headers: Headers
    entry: Entry | None = None


class _Refused(Exception):
    """The statement turned out to be none whose answer can be kept; unless `is_sure`, it could not be asked about."""

    def __init__(self, reason: str, *, is_sure: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_sure = is_sure


class CachedAnswers:
    """The result cache in front of the service."""

    def __init__(self, cache: ResultCache, verdicts: Verdicts, observe: Observer) -> None:
        self.cache = cache
        self._verdicts = verdicts
        self._observe = observe
        self._retry_at: dict[bytes, int] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self.shared: SharedStore | None = None
        self.on_fetch: Callable[[Place], asyncio.Task[None] | None] = lambda place: None
        """Called before anything of a database is fetched; what it answers with is waited for, if not for long."""

    # ── what is asked ──

    def may_ask(
        self, headers: Mapping[bytes, bytes], connection_string: bytes, url_query: bytes, body: bytes
    ) -> Asked | None:
        """Where the request's wishes stand, if it has any."""
        if not self.cache.policy.may_ask(headers, connection_string, url_query, body):
            return None
        return Asked.of(headers, connection_string, url_query)

    def recognize(self, caller: Caller, options: Options, asked: Asked, body: bytes) -> Question | None:
        """The question of a request that came before in the same bytes, so that they need not be read again."""
        return self.cache.aliases.find(scope_of(caller), options, asked, body)

    def question(
        self, caller: Caller, request: Statement | Batch, options: Options, asked: Asked, body: bytes
    ) -> Question | None:
        """What the request asks of the cache; None: nothing.

        Raises:
            BadRequest: the wish cannot be read.
        """
        statement = request if isinstance(request, Statement) else None
        question = self.cache.policy.question(scope_of(caller), statement, options, asked, body)
        if question is not None and statement is not None:
            self.cache.aliases.remember(question, options, asked, body)
        return question

    # ── answers ──

    async def answer(self, question: Question, fetch: Fetch, run: RunReading) -> Outcome:
        """The answer, from the cache or fetched for it; or why the request goes past it.

        Raises:
            NotCached: only the cache was to be asked, and has no answer.
            GatewayError: the statement failed.
        """
        wish = question.wish
        if wish.no_store or question.refusal:
            return self._past(question, "no-store" if wish.no_store else question.refusal)
        found = None if wish.no_cache else self.cache.find(question)
        if found is not None:
            return self._found(question, found, fetch, run)
        if wish.only_if_cached:
            self._tell(question, "bypass", reason="only-if-cached")
            raise NotCached("the cache has no answer that is fresh enough, and nobody else was to be asked")
        if not question.ttl and not question.swr:
            return self._past(question, "ttl")
        known = self.recall(question.scope, question.statement)
        if known is not None and (reason := known.refusal(wish.allow)):
            return self._past(question, reason)
        return await self._fetched(question, fetch, run)

    def start(self) -> None:
        """Begin to forget what nobody can get any more."""
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        if self.shared is not None:
            self.cache.hears_others = lambda: self.shared is not None and self.shared.is_connected
            self.shared.start()

    async def stop(self) -> None:
        """Fetch no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        if self.shared is not None:
            await self.shared.stop()
        await self.cache.flights.stop()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            for _ in self.cache.sweep():
                await asyncio.sleep(0)

    def _found(self, question: Question, found: Found, fetch: Fetch, run: RunReading) -> Outcome:
        entry = found.entry
        entry.hits += 1
        stale = found.left <= 0
        if stale:
            self._refresh(question, fetch, run)
        self._tell(question, "stale" if stale else "hit", saved=entry.cost)
        status = encode_status(hit=True, ttl=found.left, detail="refreshing" if stale else "")
        return _outcome(entry, (CACHE_STATUS, status), (AGE, b"%d" % found.age))

    def _refresh(self, question: Question, fetch: Fetch, run: RunReading) -> None:
        """Fetch a new answer behind the back of whoever gets the stale one."""
        flights, key = self.cache.flights, question.key
        now = self.cache.stamps.now()
        if flights.find(key) is not None or flights.is_full or self._retry_at.get(key, 0) > now:
            return
        flight = flights.start(key, self._fetch(question, fetch, run, now), began=now, is_refresh=True)
        flight.task.add_done_callback(lambda done: self._refreshed(key, done))

    def _refreshed(self, key: bytes, done: asyncio.Task[Entry]) -> None:
        """A failed refresh leaves the stale answer in place, and is not tried again with every request; unless whoever
        asks would be refused now: then it is nobody's any more."""
        self._retry_at.pop(key, None)
        error = None if done.cancelled() else done.exception()
        is_nobodys = isinstance(error, PostgresError) and error.code.startswith(_NO_MORE)
        if is_nobodys or (isinstance(error, _Refused) and error.is_sure):
            self.cache.store.drop(key)
        elif error is not None or done.cancelled():
            if len(self._retry_at) >= 10_000:
                self._retry_at.clear()
            self._retry_at[key] = self.cache.stamps.now() + _RETRY_AFTER

    async def _fetched(self, question: Question, fetch: Fetch, run: RunReading) -> Outcome:
        cache, key = self.cache, question.key
        came = cache.stamps.now()
        for may_join in (not question.wish.no_cache, False):
            flight = cache.flights.find(key) if may_join else None
            collapsed = flight is not None and cache.may_join(question, flight.began)
            if flight is None or not collapsed:
                if cache.flights.is_full:
                    return self._past(question, "busy")
                began = cache.stamps.now()
                flight = cache.flights.start(key, self._fetch(question, fetch, run, began), began=began)
            try:
                entry = await flight.landed()
            except _Refused as refused:
                refused.__traceback__ = None  # it is its task's, which this call has in hand, and the request as well
                return self._past(question, refused.reason)
            # Only one that others began can be older than what this program has seen.
            if not collapsed or entry.shows(question.bookmark) or entry.filled >= came:
                break
        stored = cache.store.get(key) is entry
        if entry.filled < entry.began:  # another gateway's
            left = question.ttl - (cache.stamps.now() - entry.filled) / 1e9
            self._tell(question, "hit", saved=entry.cost)
            status = encode_status(hit=True, ttl=left, detail="shared")
            return _outcome(entry, (CACHE_STATUS, status), (AGE, b"%d" % (question.ttl - left)))
        forwarded = "request" if question.wish.no_cache else "uri-miss"
        status = encode_status(
            forwarded=forwarded,
            ttl=question.ttl - (cache.stamps.now() - entry.filled) / 1e9 if stored else None,
            stored=stored,
            collapsed=collapsed,
        )
        self._tell(question, "collapsed" if collapsed else "miss", saved=entry.cost if collapsed else 0.0)
        return _outcome(entry, (CACHE_STATUS, status))

    async def _fetch(self, question: Question, fetch: Fetch, run: RunReading, began: int) -> Entry:
        """The task of a flight. Whatever is stamped from `began` on ends what it brings."""
        cache, place = self.cache, question.scope.place
        # Said before anything is read, so that every change from now on knows that it matters.
        cache.stamps.keep(place, began + int((question.ttl + question.swr) * 1e9))
        if (ready := self.on_fetch(place)) is not None:
            await asyncio.wait({ready}, timeout=_READY_WAIT)
            began = cache.stamps.now()
            cache.stamps.keep(place, began + int((question.ttl + question.swr) * 1e9))
        verdict = self.recall(question.scope, question.statement)
        if verdict is None:
            try:
                verdict = await self._judged(question.scope, question.statement, run)
            except PostgresError as error:  # whatever is wrong with it, it says itself when it is run
                raise _Refused("unknown", is_sure=error.code.startswith(_NO_MORE)) from None
            except ResponseTooLarge:
                raise _Refused("unknown", is_sure=False) from None
        if reason := verdict.refusal(question.wish.allow):
            raise _Refused(reason)
        buckets = cache.buckets(question, verdict.reads)
        generations = None
        if self.shared is not None:
            if not question.wish.no_cache and (entry := await self._from_others(question, began)) is not None:
                return entry
            generations = await self.shared.generations(buckets)
        started = perf_counter()
        try:
            fetched = await fetch()
        except PostgresError as error:
            if error.code == _WROTE_IN_READ_ONLY:
                raise _Refused("writes") from None
            raise
        entry = Entry(
            key=question.key,
            body=fetched.body,
            row_count=fetched.row_count,
            began=began,
            ttl=question.ttl,
            swr=question.swr,
            cost=perf_counter() - started,
            buckets=buckets,
            place=place,
            text=question.statement.text,
            since=fetched.since or question.bookmark,
            seen=fetched.seen,
        )
        if len(entry.body) <= cache.max_entry_bytes and cache.is_good(entry.buckets, began):
            cache.store.put(entry)
            if self.shared is not None and generations is not None:
                age = (cache.stamps.now() - began) / 1e9
                shared = Shared(
                    *(entry.body, entry.row_count, entry.ttl, entry.swr, entry.cost, age, buckets),
                    since=entry.since,
                    seen=entry.seen,
                )
                self.shared.put(entry.key, shared, generations)
        return entry

    async def _from_others(self, question: Question, began: int) -> Entry | None:
        """An answer that another gateway has fetched, if it is fresh for who asks."""
        assert self.shared is not None
        found = await self.shared.get(question.key)
        if found is None or found.age >= question.ttl:
            return None
        cache = self.cache
        filled = cache.stamps.now() - int(found.age * 1e9)
        # What this gateway knows goes before what the other one stored, which may not have heard of it.
        if not cache.stamps.is_good({*found.buckets, *cache.buckets(question, ())}, min(began, filled) - _CLOCK_ERROR):
            return None
        entry = Entry(
            key=question.key,
            body=found.body,
            row_count=found.row_count,
            began=began,
            ttl=found.ttl,
            swr=found.swr,
            cost=found.cost,
            buckets=found.buckets,
            place=question.scope.place,
            text=question.statement.text,
            filled=filled,
            since=found.since,
            seen=found.seen,
        )
        if not entry.shows(question.bookmark):
            return None
        cache.store.put(entry)
        return entry

    def _past(self, question: Question, reason: str) -> Outcome:
        name = reason.partition(":")[0]
        self._tell(question, "bypass", reason=name)
        forwarded = "request" if name == "no-store" else "bypass"
        return Outcome(((CACHE_STATUS, encode_status(forwarded=forwarded, detail=_token(reason))),))

    def _tell(self, question: Question, outcome: str, *, reason: str = "", saved: float = 0.0) -> None:
        self._observe(Cached(question.scope.target, question.scope.database, outcome, reason, saved))

    # ── what a statement is ──

    def recall(self, scope: Scope, statement: Statement) -> Verdict | None:
        """What is known of a statement, if nothing has changed that may make it another."""
        return self._verdicts.recall(_verdict_key(scope, statement), self.cache.schema_changed_at(scope.place))

    def recall_worst(self, scope: Scope, statement: Statement) -> Verdict | None:
        """A verdict that says the worst, which it does whatever was changed since."""
        verdict = self._verdicts.recall(_verdict_key(scope, statement))
        return verdict if verdict is not None and verdict.writes is None else None

    async def ask(self, scope: Scope, statement: Statement, run: RunReading) -> Verdict:
        """What a statement reads and writes, asked of Postgres and remembered.

        Raises:
            GatewayError: Postgres could not be asked.
        """
        try:
            return await self._judged(scope, statement, run)
        except PostgresError:
            return UNKNOWN

    async def _judged(self, scope: Scope, statement: Statement, run: RunReading) -> Verdict:
        async def results(statements: Sequence[Statement]) -> list[Result]:
            return await run(Batch(tuple(statements)), READING)

        return await self._verdicts.ask(_verdict_key(scope, statement), len(statement.params), results)


def _verdict_key(scope: Scope, statement: Statement) -> Key:
    return (*scope.place, scope.login, scope.role, statement.text)


def _outcome(entry: Entry, *headers: tuple[bytes, bytes]) -> Outcome:
    """An answer, and what its program has seen with it."""
    if entry.seen is not None:
        headers = (*headers, (BOOKMARK, encode_bookmark(entry.seen)))
    return Outcome(headers, entry)


def scope_of(caller: Caller) -> Scope:
    """As whom a caller's requests run."""
    grant, login = caller.grant, caller.pool.key.role
    if grant is None:
        return Scope(caller.target, caller.database, caller.role, login)
    return Scope(caller.target, caller.database, caller.role, login, grant.tenant, grant.claims or b"")


def _token(reason: str) -> str:
    """A detail as a structured field may have it: a token, else a string (RFC 8941)."""
    if reason.replace("-", "").replace("_", "").isalnum() and reason.isascii() and reason[0].isalpha():
        return reason
    text = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "?" for letter in reason)
    return f'"{text}"'
