"""The product broken on purpose, in one place each, so that every check of this suite can be seen to fail.

A breakage is applied inside a gateway's process after its imports, by `broken_gateway` and by the nursery, which read
its name from the environment; the product knows nothing of this. Each says which check has to see it, and by what: a
text that what is found has to match, so that no other harm is taken for the one that was done.
"""

import asyncio
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlhttp_gateway import app
from sqlhttp_gateway.cache import policy
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, PostgresError
from sqlhttp_gateway.execute import plain, plain_batch
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.idempotency import store, table
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.observe.log_writer import LogWriter
from sqlhttp_gateway.pools import connect, scrub, several
from sqlhttp_gateway.pools import pool as pools
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.cancelling import CancelRequests
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.line import Line
from sqlhttp_gateway.pools.taker import Taker
from sqlhttp_gateway.tunnel.tunnels import Tunnels
from sqlhttp_gateway.wire.exchange import ERROR_RESPONSE, IDLE, Exchange
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, SYNC, encode_parse
from sqlhttp_gateway.workers import Workers
from tests.faults.world import VARIABLE


@dataclass(frozen=True, slots=True)
class Breakage:
    """One of them."""

    name: str
    check: str
    """The one of `broken.CHECKS` that has to see it."""
    sign: str
    """A regular expression that one of the findings has to match."""
    apply: Callable[[], None]


BREAKAGES: dict[str, Breakage] = {}


def break_as_told() -> None:
    """Break this process as its environment says, if it does."""
    name = os.environ.get(VARIABLE)
    if name:
        BREAKAGES[name].apply()


def _breakage(name: str, *, check: str, sign: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(apply: Callable[[], None]) -> Callable[[], None]:
        BREAKAGES[name] = Breakage(name, check, sign, apply)
        return apply

    return add


def _replace(original: Any, changed: Any) -> None:
    """Put another thing in an imported one's place, wherever it was imported by its name."""
    assert app, "all that is to be broken is there"
    count = 0
    for name, module in list(sys.modules.items()):
        if name.startswith("sqlhttp_gateway"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    setattr(module, attribute, changed)
                    count += 1
    assert count, f"{original} is nowhere"


def _reword(old: bytes, new: bytes) -> None:
    """Let one of the scrub's prepared statements do something else."""
    name, prepared = scrub._NAMES[scrub.LIGHT.index(old)], scrub.PREPARE
    scrub.PREPARE = prepared.replace(encode_parse(name, old), encode_parse(name, new))
    assert prepared != scrub.PREPARE


# ── what one leaves behind for the next ──────────────────────────────────────────────────────────────────────────────


@_breakage("the scrub forgets RESET ALL", check="mixture", sign=r"found .*'tag': '|error of somebody else's")
def _settings_stay() -> None:
    _reword(b"RESET ALL", b"RESET application_name")


@_breakage("the scrub forgets advisory locks", check="mixture", sign=r"found .*'locks': [1-9]")
def _locks_stay() -> None:
    _reword(scrub._UNLOCK, b"SELECT ''::text")
    look = scrub._LOOK.replace(scrub._UNLOCK, b"SELECT ''::text")
    looks, harmless = encode_parse(b"", scrub._LOOK), encode_parse(b"", look)
    scrub.RUN_LOOKING = scrub.RUN_LOOKING.replace(looks, harmless)
    for behind in (scrub.BEHIND_ONE_LOOKING, scrub.BEHIND_SEVERAL_LOOKING):
        _replace(behind, (behind[0].replace(looks, harmless), behind[1]))


@_breakage("the scrub forgets temporary tables", check="mixture", sign=r"found .*'temp': '")
def _temporary_tables_stay() -> None:
    _reword(b"DISCARD TEMP", b"DISCARD SEQUENCES")


@_breakage("a failed transaction is handed on", check="mixture", sign=r"error of somebody else's: 25P02")
def _transactions_stay() -> None:
    Lease._needs_recovery = property(lambda self: False)  # type: ignore[assignment]
    scrub.Scrub.is_clean = property(lambda self: True)  # type: ignore[assignment]


@_breakage("a quick statement that failed is not scrubbed", check="quick", sign=r"found .*'locks': [1-9]")
def _errors_stay() -> None:
    scrub.ScrubbedExchange.is_clean = property(lambda self: self.status == IDLE)  # type: ignore[assignment]


@_breakage("a hand-over's scrub that failed is not made good", check="hand-overs", sign="met what another left")
def _uncleansed() -> None:
    async def at_once(self: Lease) -> bool:
        self._is_deep = self._has_run = False
        self._status = IDLE
        self.was_cleansed()
        return True

    Lease.cleanse = at_once  # type: ignore[method-assign]


@_breakage("what is left of an answer goes to the next caller", check="answers", sign="somebody else's")
def _late_answers() -> None:
    settle = Lease._settle

    def hand_over(self: Lease) -> None:
        if self._released and self._is_running and not self.backend.closing:
            self.backend._queue.clear()
            self._hand_over()
        else:
            settle(self)

    Lease._settle = hand_over  # type: ignore[method-assign]


@_breakage("the cache does not look at roles", check="mixture", sign="may not read shape")
def _shared_answers() -> None:
    key = policy._key

    def without_role(scope: Any, *rest: Any) -> bytes:
        return key(scope._replace(role="", login="", tenant="", claims=b""), *rest)

    _replace(key, without_role)


@_breakage("writes end nothing in the cache", check="mixture", sign=r"wrote \d and read \d")
def _stale_answers() -> None:
    from sqlhttp_gateway.cache.results import ResultCache

    ResultCache.changed = lambda self, place, writes: []  # type: ignore[method-assign,assignment]
    ResultCache.schema_changed = lambda self, place: []  # type: ignore[method-assign,assignment]


@_breakage("a token's claims are another one's", check="mixture", sign="was shown the notes of")
def _foreign_claims() -> None:
    from sqlhttp_gateway.auth import claims, rls

    signed = rls.signed_claims
    names = itertools.cycle((b'"ann"', b'"bob"'))

    def mixed(text: bytes, **rest: Any) -> Any:
        name = next(names)
        return signed(text.replace(b'"ann"', name).replace(b'"bob"', name), **rest)

    rls.signed_claims = mixed
    assert claims.rls is rls


# ── writes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@_breakage("a lost connection is taken for one on which nothing ran", check="cut answers", sign="there twice")
def _repeated() -> None:
    refuse = Exchange.refuse

    def and_begin_again(self: Exchange, error: GatewayError) -> None:
        refuse(self, error)
        if isinstance(error, ConnectionBroken):
            self.fatal_first = True

    Exchange.refuse = and_begin_again  # type: ignore[method-assign]


@_breakage("a statement is run again whose backend was ended", check="run again", sign="run again")
def _run_again() -> None:
    take = Exchange._take

    def and_begin_again(self: Exchange, tag: int, *rest: Any) -> None:
        take(self, tag, *rest)
        if tag == ERROR_RESPONSE and isinstance(self.error, PostgresError) and self.error.fields.get("V") == "FATAL":
            self.fatal_first = True

    Exchange._take = and_begin_again  # type: ignore[method-assign,assignment]


@_breakage("a batch is told without its COMMIT", check="mixture", sign="acknowledged and lost")
def _told_early() -> None:
    run = Lease.run

    async def without_tail(self: Lease, frames: bytes, exchange: Exchange, *, tail: bytes = b"", **rest: Any) -> None:
        await run(self, frames, exchange, tail=SYNC if tail else b"", **rest)

    Lease.run = without_tail  # type: ignore[method-assign,assignment]


@_breakage("the COMMIT behind a quick statement is left out", check="quick", sign="acknowledged and lost")
def _uncommitted() -> None:
    _without_commit(scrub.BEHIND_ONE, scrub.BEHIND_ONE_LOOKING)


@_breakage("the COMMIT of a quick batch is left out", check="quick", sign="acknowledged and lost")
def _uncommitted_batches() -> None:
    _without_commit(scrub.BEHIND_SEVERAL, scrub.BEHIND_SEVERAL_LOOKING)


def _without_commit(*those: tuple[bytes, bytes]) -> None:
    for behind in those:
        sent, answered = behind
        assert scrub.COMMIT in sent
        _replace(behind, (sent.replace(scrub.COMMIT, b""), answered))


@_breakage("the error of a deferred constraint is lost", check="quick", sign="acknowledged and lost")
def _broken_promises() -> None:
    take = scrub.ScrubbedExchange._take

    def overlook(self: scrub.ScrubbedExchange, tag: int, *rest: Any) -> None:
        if tag == ERROR_RESPONSE and len(self.results) == self._awaited:
            self.is_committed = True
        take(self, tag, *rest)

    scrub.ScrubbedExchange._take = overlook  # type: ignore[method-assign,assignment]


@_breakage("a batch is no transaction", check="mixture", sign=r"half a batch|refused and there")
def _piecemeal() -> None:
    run = execute

    async def each(lease: Lease, request: Any, *rest: Any, **named: Any) -> Any:
        if not isinstance(request, Batch):
            return await run(lease, request, *rest, **named)
        return [(await run(lease, statement, *rest, **named))[0] for statement in request.statements]

    _replace(run, each)


@_breakage("a plain batch is no transaction", check="quick", sign=r"half a batch|refused and there")
def _piecemeal_in_one_write() -> None:
    """Each of its statements is committed, and what Postgres says of that is taken out of the answer."""
    receive, said = Backend.data_received, scrub._COMMITTED + scrub._BEGUN
    several.DESCRIBE_AND_EXECUTE = DESCRIBE_AND_EXECUTE + scrub.COMMIT + scrub._BEGIN  # type: ignore[attr-defined]
    plain_batch.DESCRIBE_AND_EXECUTE = several.DESCRIBE_AND_EXECUTE  # type: ignore[attr-defined]
    Backend.data_received = lambda self, data: receive(self, data.replace(said, b""))  # type: ignore[method-assign]


@_breakage("an idempotency key stops nobody", check="killing", sign=r"written \d times")
def _keys_open() -> None:
    changed = tuple(text.replace("    IF is_new THEN\n", "    IF true THEN\n") for text in table.INSTALL)
    changed = tuple(text.replace("    IF NOT FOUND THEN\n", "    IF false THEN\n") for text in changed)
    assert changed != table.INSTALL
    assert store.table is table
    table.INSTALL = changed


@_breakage("a key is answered before its write is committed", check="killing", sign="acknowledged and lost")
def _keys_early() -> None:
    from sqlhttp_gateway.idempotency import run as runs

    run_once = runs.run_once

    async def early(lease: Lease, request: Any, *rest: Any, keep: Any, **named: Any) -> Any:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def keep_and_tell(results: Any) -> Any:
            answer, keeping = await keep(results)
            told.set_result(answer)
            await asyncio.sleep(0.02)
            return answer, keeping

        running = asyncio.ensure_future(run_once(lease, request, *rest, keep=keep_and_tell, **named))
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return await running
        running.add_done_callback(lambda task: task.cancelled() or task.exception())
        return told.result()

    _replace(run_once, early)


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@_breakage("four permits too many", check="mixture", sign=r"\d+ backends of pools whose bound is")
def _wide_gate() -> None:
    pools.Gate = lambda permits, **rest: Gate(permits + 4, **rest)  # type: ignore[assignment,misc]


@_breakage("the bound over all pools has room for eight more", check="mixture", sign=r"\d+ backends, and the bound is")
def _wide_budget() -> None:
    reserve = Budget.try_reserve

    def with_room(self: Budget, pool: Any) -> bool:
        self._limit += 8
        try:
            return reserve(self, pool)
        finally:
            self._limit -= 8

    Budget.try_reserve = with_room  # type: ignore[method-assign]


@_breakage("one lease in fifty is never released", check="mixture", sign=r"after 5 s: sqlhttp_pool_connections.*leased")
def _lost_leases() -> None:
    release = Lease.release

    def forget(self: Lease) -> None:
        if random.random() < 0.02:
            self._released = True
        else:
            release(self)

    Lease.release = forget  # type: ignore[method-assign]


@_breakage("descriptors are leaked", check="mixture", sign=r"after 5 s: \d+ descriptors")
def _leaked_descriptors() -> None:
    open_connection = connect.open_connection

    async def leak(**how: Any) -> Any:
        connection = await open_connection(**how)
        os.dup(connection._transport.get_extra_info("socket").fileno())
        return connection

    _replace(open_connection, leak)


@_breakage("memory is kept of every request", check="flatness", sign="memory, MiB")
def _kept_memory() -> None:
    release, kept = Lease.release, []

    def keep(self: Lease) -> None:
        kept.append(os.urandom(100_000))
        release(self)

    Lease.release = keep  # type: ignore[method-assign]


@_breakage("the queue is served from its end", check="order", sign="out of turn")
def _last_first() -> None:
    join = Line.join

    def push_in(self: Line[Any], turn: Any, place: Any) -> None:
        join(self, turn, place)
        self._queues[place.tenant].move_to_end(turn, last=False)

    Line.join = push_in  # type: ignore[method-assign]


@_breakage("a wait has another second", check="waits", sign="wait beyond")
def _patient() -> None:
    stand = Gate.stand

    def longer(self: Gate, turn: Any, timeout: float, **named: Any) -> float:
        return stand(self, turn, timeout + 1.0, **named)

    Gate.stand = longer  # type: ignore[method-assign]


@_breakage("a tunnel's wait has another second", check="tunnels' waits", sign="wait beyond")
def _patient_tunnels() -> None:
    stand = Gate.stand

    def longer(self: Gate, turn: Any, timeout: float, **named: Any) -> float:
        return stand(self, turn, timeout + isinstance(turn, Taker), **named)

    Gate.stand = longer  # type: ignore[method-assign]


@_breakage("a refusal takes a tenth of a second", check="overflow", sign="refusal with a full queue")
def _slow_refusal() -> None:
    full = Gate._full

    def slow(self: Gate, own: int) -> Any:
        time.sleep(0.1)
        return full(self, own)

    Gate._full = slow  # type: ignore[method-assign]


@_breakage("a breaker stays open", check="recovery", sign="first success")
def _open_breaker() -> None:
    from sqlhttp_gateway.pools.breaker import Breaker

    succeeded = Breaker.succeeded

    def late(self: Breaker) -> None:
        asyncio.get_running_loop().call_later(2.0, succeeded, self)

    Breaker.succeeded = late  # type: ignore[method-assign]


@_breakage("listen.max_connections counts nothing", check="programs", sign="beyond listen.max_connections")
def _open_door() -> None:
    Connections._has_place = lambda self, now: True  # type: ignore[method-assign]


@_breakage("who waits through a pause has no limit behind it", check="pauses", sign="and a pause")
def _timeless() -> None:
    resume, postpone = Gate.resume, Gate._postpone

    def forget(self: Gate) -> None:
        Gate._postpone = lambda self, moments: None  # type: ignore[method-assign]
        resume(self)
        Gate._postpone = postpone  # type: ignore[method-assign]

    Gate.resume = forget  # type: ignore[method-assign]


# ── what it needs of its machine ──


@_breakage("the wall clock says how old a cached answer is", check="clocks", sign="a cached answer is gone")
def _by_the_wall() -> None:
    Stamps.now = lambda self: time.time_ns()  # type: ignore[method-assign]


@_breakage("a connection to Postgres is used once", check="files", sign="not answered any more")
def _used_once() -> None:
    Lease.release = lambda self: self.drop("once")  # type: ignore[method-assign]


@_breakage("a program that asks nothing costs 100 KB", check="idle sockets", sign="KiB for each of")
def _costly_programs() -> None:
    enter = Connections.enter
    kept: list[bytes] = []

    def costly(self: Connections, connection: Any, now: float) -> Any:
        kept.append(os.urandom(100_000))
        return enter(self, connection, now)

    Connections.enter = costly  # type: ignore[method-assign]


@_breakage("nobody takes the place of a worker that ended", check="workers' memory", sign="not as before")
def _not_replaced() -> None:
    def forget(self: Workers, pid: int, status: int) -> None:
        self._running.pop(pid, None)
        self._running[-pid] = 0  # or the last one's end would be everybody's

    Workers._ended = forget  # type: ignore[method-assign]


# ── cancels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@_breakage("whoever goes away leaves the query running", check="abort", sign="after its caller has gone")
def _no_cancel() -> None:
    async def nothing(self: Backend) -> None:
        pass

    Backend.request_cancel = nothing  # type: ignore[method-assign]


@_breakage("a cancel is sent late, to whoever has the backend then", check="race", sign="one who cancels nothing")
def _late_cancel() -> None:
    request = Backend.request_cancel
    sending: set[asyncio.Task[None]] = set()

    async def later(self: Backend) -> None:
        async def send() -> None:
            await asyncio.sleep(0.02)
            await request(self)

        task = asyncio.ensure_future(send())
        sending.add(task)
        task.add_done_callback(sending.discard)

    Backend.request_cancel = later  # type: ignore[method-assign]


@_breakage("a cancel is sent again although its statement is over", check="cancels", sign="by somebody else's cancel")
def _cancelled_twice() -> None:
    leave = CancelRequests.__aexit__
    sending: set[asyncio.Future[None]] = set()

    async def and_again(self: CancelRequests, *why: Any) -> None:
        await leave(self, *why)
        request = self._request

        def send() -> None:
            task = asyncio.ensure_future(request())
            sending.add(task)
            task.add_done_callback(sending.discard)

        asyncio.get_running_loop().call_later(0.02, send)

    CancelRequests.__aexit__ = and_again  # type: ignore[method-assign,assignment]


@_breakage("a cancel key opens nothing", check="survivors", sign="a statement ended with")
def _useless_keys() -> None:
    Tunnels._show = lambda self, process_id, secret: None  # type: ignore[method-assign]


# ── what it says of itself ───────────────────────────────────────────────────────────────────────────────────────────


_AT_THE_START = 10
"""Lines more than it takes until a gateway serves."""


@_breakage("a request waits until its line is in the log", check="full log", sign="not answered")
def _logged_at_once() -> None:
    emit, lines = LogWriter.emit, itertools.count()

    def write(self: LogWriter, record: Any) -> None:
        if next(lines) < _AT_THE_START:
            emit(self, record)
        else:
            self._put(self.format(record) + "\n")

    LogWriter.emit = write  # type: ignore[method-assign]


@_breakage("the end waits until its last line is in the log", check="unread log", sign="did not end")
def _unhurried_log() -> None:
    def wait(self: LogWriter) -> None:
        if self._pid == os.getpid():
            written = threading.Event()
            self._lines.put(written)
            written.wait()

    LogWriter.flush = wait  # type: ignore[method-assign]


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@_breakage("an error shows the parameters", check="mixture", sign="secret in an error")
def _shown_parameters() -> None:
    run = execute

    async def tell(lease: Lease, request: Any, *rest: Any, **named: Any) -> Any:
        try:
            return await run(lease, request, *rest, **named)
        except PostgresError as error:
            error.fields["D"] = _values(request)
            raise

    _replace(run, tell)


@_breakage("a quick error shows the parameters", check="quick", sign="secret in an error")
def _shown_quick_parameters() -> None:
    def telling(result: Callable[..., Any]) -> Callable[..., Any]:
        def tell(lease: Lease, request: Any, *rest: Any) -> Any:
            try:
                return result(lease, request, *rest)
            except PostgresError as error:
                error.fields["D"] = _values(request)
                raise

        return tell

    for result in (plain.plain_result, plain_batch.batch_results):
        _replace(result, telling(result))


def _values(request: Statement | Batch) -> str:
    """What `repr` leaves out."""
    statements = request.statements if isinstance(request, Batch) else (request,)
    return str([statement.params for statement in statements])


@_breakage("a refused log-in is logged with its password", check="mixture", sign="secret in the log")
def _logged_password() -> None:
    open_connection = connect.open_connection

    async def tell(**how: Any) -> Any:
        try:
            return await open_connection(**how)
        except OSError as error:
            raise OSError(error.errno, f"cannot log in with {how['password']}") from None

    _replace(open_connection, tell)
