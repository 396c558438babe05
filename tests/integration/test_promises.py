"""What the classes of errors promise of a write, each shown: that it may be there, or that it never is.

Every class of `errors` has a case here, or a reason why it has none. A case writes a row under its own name and meets
that error, which is known by its being made, since the gateway runs in the test's process. Where Postgres does not do
on demand what is needed, a proxy stands for it that withholds the answer or falsifies it.
"""

import asyncio
import gzip
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import pack
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from sqlhttp_gateway import errors
from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.auth.credentials import ApiKey
from sqlhttp_gateway.errors import GatewayError, HasRun, PostgresError
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.lying_proxy import LyingProxy, gone, lying_proxy, nonsense, silent
from tests.support.program import scratch_database
from tests.support.wire_program import WireProgram, connected, logged_in, startup

_TIMEOUT = 60.0
TESTS = Path(__file__).parents[1]
_TRIES = 20
"""A write that may be there is there sooner or later: it and its end can cross each other."""
LARGE = 20_000
OF_ANOTHER_DATABASE, OF_ANOTHER_PAGE, OF_OTHER_STATEMENTS = keys = [new_key() for _ in range(3)]
_GIVEN = ({}, {"origins": ["https://app.example"]}, {"statements": [digest_of("SELECT 1").hex()]})
COMMON: dict[str, Any] = {
    "watch": {"interval": 0},
    "statement": {"cancel_timeout": 0.2},
    "request": {"max_bytes": 50_000, "read_timeout": 0.2},
    "response": {"max_bytes": LARGE},
    "idempotency": {"wait": 0.1},
    "breaker": {"failures": 0},
    "tunnel": {"max_pinned": 1},
    "issuers": {"own": {"secret": "by-which-no-token-here-is-signed", "roles": ["postgres"]}},
}
"""Of the gateway that all cases share which ask for no other."""


@dataclass
class Place:
    """A gateway with a database behind it that is not always believed."""

    gateway: Gateway
    database: Database
    """By way of the proxy."""
    proxy: LyingProxy
    http: httpx.AsyncClient
    direct: asyncpg.Connection
    stack: AsyncExitStack
    """What is closed at the end of the test."""
    answers: list[httpx.Response] = field(default_factory=list)

    async def post(self, body: object, to: Database | None = None, **headers: str) -> httpx.Response:
        """A request, with what is written in `body` for NAME."""
        given = {"Neon-Connection-String": (to or self.database).url, **headers}
        answer = await self.http.post(
            self.gateway.sql, headers=given, **({"content": body} if isinstance(body, bytes) else {"json": body})
        )
        self.answers.append(answer)
        return answer

    async def tunnel(self) -> WireProgram:
        return await self.stack.enter_async_context(logged_in(self.gateway, self.database))

    async def is_there(self, tag: str) -> bool:
        return bool(await self.direct.fetchval("SELECT count(*) FROM seen WHERE v = $1", tag))

    async def until_there(self, tag: str) -> None:
        async with asyncio.timeout(_TIMEOUT):
            while not await self.is_there(tag):  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(0.005)

    async def until_busy(self, condition: str, number: int = 1) -> None:
        """So many backends are at it."""
        text = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        async with asyncio.timeout(_TIMEOUT):
            while await self.direct.fetchval(text) < number:  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(0.005)


def write(tag: str) -> dict[str, str]:
    return {"query": insert(tag)}


def insert(tag: str) -> str:
    return f"INSERT INTO seen VALUES ('{tag}')"


Happens = Callable[[Place, str], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """What makes the error, and the settings with which it does."""

    kind: type[GatewayError]
    happens: Happens
    settings: Mapping[str, Any]


CASES: dict[str, Case] = {}


def case(kind: type[GatewayError], **settings: Any) -> Callable[[Happens], Happens]:
    def add(happens: Happens) -> Happens:
        CASES[kind.__name__] = Case(kind, happens, settings)
        return happens

    return add


# ── it may be there ──────────────────────────────────────────────────────────────────────────────────────────────────


@case(errors.StatementTimeout, statement={"timeout": 0.2, "cancel_timeout": 0.2})
async def its_answer_is_late(place: Place, tag: str) -> None:
    place.proxy.lie(silent, tag.encode())
    await place.post(write(tag))


@case(errors.DeadlineExceeded)
async def its_deadline_comes_before_its_answer(place: Place, tag: str) -> None:
    place.proxy.lie(silent, tag.encode())
    await place.post(write(tag), **{"Sqlhttp-Timeout": "0.3"})


@case(errors.ConnectionBroken)
async def its_connection_is_reset_in_place_of_the_answer(place: Place, tag: str) -> None:
    place.proxy.lie(gone, tag.encode())
    await place.post(write(tag))


@case(errors.RemoteProtocolError)
async def its_answer_is_none(place: Place, tag: str) -> None:
    place.proxy.lie(nonsense, tag.encode())
    await place.post(write(tag))


@case(errors.ResponseTooLarge)
async def its_rows_are_too_many(place: Place, tag: str) -> None:
    await place.post({"query": f"{insert(tag)} RETURNING repeat('x', {LARGE})"})


@case(errors.KeyUnanswered)
async def it_ends_its_own_transaction_under_a_key(place: Place, tag: str) -> None:
    batch = {"queries": [write(tag), {"query": "COMMIT"}]}
    with patch("sqlhttp_gateway.idempotency.run.ends_transaction", lambda request: False):  # Postgres alone sees it
        await place.post(batch, **{"Idempotency-Key": f'"{tag}"'})


@case(PostgresError)
async def it_commits_on_the_way(place: Place, tag: str) -> None:
    await place.post({"query": f"DO $$ BEGIN {insert(tag)}; COMMIT; PERFORM 1/0; END $$"})


@case(errors.TransactionTimeout, tunnel={"transaction_timeout": 0.2})
async def its_time_is_over_before_it_is_answered(place: Place, tag: str) -> None:
    program = await place.tunnel()
    place.proxy.lie(silent, tag.encode())
    await program.send(encode_query(insert(tag).encode()))
    await program.ended()


@case(errors.PinsExhausted)
async def it_shares_its_text_with_what_needs_a_connection_for_good(place: Place, tag: str) -> None:
    holder, program = await place.tunnel(), await place.tunnel()
    await holder.query("CREATE TEMP TABLE mine (n int)")
    await program.send(encode_query(f"{insert(tag)}; CREATE TEMP TABLE mine (n int)".encode()))
    await program.answer()


@case(errors.SendTimeout, tunnel={"send_timeout": 0.3})
async def its_program_does_not_read(place: Place, tag: str) -> None:
    async with connected(place.gateway, place.database, max_queue=1) as program:
        await program.log_in()
        many = b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)"
        await program.send(encode_query(insert(tag).encode()) + encode_query(many))
        await program.message()
        await place.until_there(tag)
        await made(errors.SendTimeout)
        program.vanish()


# ── it never is ──────────────────────────────────────────────────────────────────────────────────────────────────────


@case(errors.UnsupportedStatement)
async def it_is_copied_to_a_stream(place: Place, tag: str) -> None:
    await place.post({"query": f"COPY ({insert(tag)} RETURNING 1) TO STDOUT"})


@case(errors.BadRequest)
async def it_is_no_json(place: Place, tag: str) -> None:
    await place.post(f'{{"query":"{insert(tag)}"'.encode())


@case(errors.EncodedBody)
async def its_body_is_compressed(place: Place, tag: str) -> None:
    await place.post(gzip.compress(f'{{"query":"{insert(tag)}"}}'.encode()), **{"Content-Encoding": "gzip"})


@case(errors.InvalidConnectionString)
async def it_has_no_connection_string(place: Place, tag: str) -> None:
    await place.post(write(tag), **{"Neon-Connection-String": "nothing"})


async def ask_at_the_door(place: Place, tag: str, *, version: int = 3 << 16, **parameters: str) -> None:
    """Log-in and write at once, as drivers send it."""
    async with connected(place.gateway, place.database) as program:
        first = startup(place.database, parameters, version=version)
        with suppress(ConnectionClosed):  # it may be sent away before it has said anything
            await program.send(first + program.password() + encode_query(insert(tag).encode()))
        await program.ended()


@case(errors.InvalidParameter)
async def its_program_logs_in_with_a_value_that_is_none(place: Place, tag: str) -> None:
    await ask_at_the_door(place, tag, pool_mode="sometimes")


@case(errors.UnsupportedProtocol)
async def its_program_wants_another_protocol(place: Place, tag: str) -> None:
    await ask_at_the_door(place, tag, version=2 << 16)


@case(errors.TunnelsExhausted, tunnel={"max_open": 1})
async def its_program_is_one_too_many(place: Place, tag: str) -> None:
    await place.tunnel()
    await ask_at_the_door(place, tag)


@case(errors.RequestTooLarge)
async def its_body_is_too_large(place: Place, tag: str) -> None:
    await place.post({"query": f"{insert(tag)} -- {'x' * 50_000}"})


@case(errors.MessageTooLarge)
async def its_text_is_too_long_for_a_tunnel(place: Place, tag: str) -> None:
    program = await place.tunnel()
    await program.send(b"Q" + pack("!I", 1 << 25) + insert(tag).encode())
    await program.ended()


@case(errors.HeadTooLarge)
async def its_head_is_too_large(place: Place, tag: str) -> None:
    await place.post(write(tag), **{f"X-{number}": "" for number in range(200)})


@case(errors.RequestTooSlow)
async def its_body_does_not_end(place: Place, tag: str) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield f'{{"query":"{insert(tag)}"'.encode()
        await made(errors.RequestTooSlow)

    await place.http.post(place.gateway.sql, content=slowly(), headers={"Neon-Connection-String": place.database.url})


@case(errors.StatementTooComplex)
async def its_comments_are_nested_too_deep(place: Place, tag: str) -> None:
    await place.post({"query": "/*" * 10_000 + "*/" * 10_000 + insert(tag)})


@case(errors.PasswordFailed)
async def its_password_is_wrong(place: Place, tag: str) -> None:
    await place.post(write(tag), to=replace(place.database, password="wrong"))


@case(errors.TooManyFailures, auth={"failures": 1})
async def its_password_was_wrong_too_often(place: Place, tag: str) -> None:
    for _ in range(3):
        await place.post(write(tag), to=replace(place.database, password="wrong"))


@case(errors.CredentialsMissing)
async def it_shows_nothing(place: Place, tag: str) -> None:
    await place.post(write(tag), to=replace(place.database, password=""))


@case(errors.InvalidToken)
async def its_token_is_none(place: Place, tag: str) -> None:
    await place.post(write(tag), Authorization="Bearer nonsense")


@case(errors.InvalidKey)
async def its_key_is_unknown(place: Place, tag: str) -> None:
    await place.post(write(tag), Authorization=f"Bearer {new_key().text}")


async def post_with_key(place: Place, tag: str, key: ApiKey, **headers: str) -> None:
    await place.post(write(tag), Authorization=f"Bearer {key.text}", **headers)


@case(errors.ScopeRefused)
async def its_key_is_for_another_database(place: Place, tag: str) -> None:
    await post_with_key(place, tag, OF_ANOTHER_DATABASE)


@case(errors.PlaceRefused)
async def its_key_is_for_another_page(place: Place, tag: str) -> None:
    await post_with_key(place, tag, OF_ANOTHER_PAGE, Origin="https://other.example")


@case(errors.StatementRefused)
async def it_is_not_on_the_keys_list(place: Place, tag: str) -> None:
    await post_with_key(place, tag, OF_OTHER_STATEMENTS)


@case(errors.RateLimited, limits={"roles": {"postgres": {"rate": 0.001, "burst": 1}}})
async def it_comes_too_soon(place: Place, tag: str) -> None:
    await place.post({"query": "SELECT 1"})
    await place.post(write(tag))


SLEEP = {"query": "SELECT pg_sleep(60)"}
SLEEPS = "wait_event = 'PgSleep'"


@asynccontextmanager
async def busy(place: Place) -> AsyncIterator[None]:
    """Somebody has the only connection; he is let go at the end."""

    async def hold() -> None:
        while (await place.post(SLEEP)).json()[
            "code"
        ] != "57014":  # opening a connection can take longer than a wait may
            pass

    holder = asyncio.create_task(hold())
    await place.until_busy(SLEEPS)
    try:
        yield
    finally:
        await place.direct.execute(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {SLEEPS}")
        await holder


@case(errors.WaitTimeout, pool={"max_size": 1, "wait_timeout": 0.1})
async def it_waits_too_long(place: Place, tag: str) -> None:
    async with busy(place):
        await place.post(write(tag))


@case(errors.QueueFull, pool={"max_size": 1, "max_waiting": 1, "wait_timeout": 0.2})
async def it_finds_no_place_to_wait(place: Place, tag: str) -> None:
    async with busy(place):
        await asyncio.gather(place.post(write(tag)), place.post(write(tag)))  # the other one waits in vain


@case(errors.DeadlineBeforeRun, pool={"max_size": 1})
async def its_deadline_comes_while_it_waits(place: Place, tag: str) -> None:
    async with busy(place):
        await place.post(write(tag), **{"Sqlhttp-Timeout": "0.1"})


@case(errors.ConcurrencyLimited, limits={"roles": {"postgres": {"max_concurrent": 1, "max_waiting": 0}}})
async def it_is_one_too_many_of_its_tenant(place: Place, tag: str) -> None:
    async with busy(place):
        await place.post(write(tag))


@case(errors.RequestCancelled, pool={"max_size": 1})
async def it_is_cancelled_while_it_waits(place: Place, tag: str) -> None:
    program = await place.tunnel()
    async with busy(place):
        await program.send(encode_query(insert(tag).encode()))
        async with asyncio.timeout(_TIMEOUT):
            while not was_made(errors.RequestCancelled):
                async with connected(place.gateway, place.database) as other:
                    await other.send(program.cancel_request(program.key))
                    await other.ended()
        assert (await program.answer()).code == "57014"


@case(errors.IdleInTransactionTimeout, tunnel={"idle_in_transaction_timeout": 0.2})
async def its_transaction_stays_open(place: Place, tag: str) -> None:
    program = await place.tunnel()
    await program.query(f"BEGIN; {insert(tag)}")
    await program.ended()


@case(errors.IdleSessionTimeout, tunnel={"client_idle_timeout": 0.2})
async def it_comes_after_its_tunnel_was_idle_for_too_long(place: Place, tag: str) -> None:
    program = await place.tunnel()
    await made(errors.IdleSessionTimeout)
    with suppress(ConnectionClosed):
        await program.send(encode_query(insert(tag).encode()))
    await program.ended()


@case(errors.TargetUnavailable)
async def nobody_is_there(place: Place, tag: str) -> None:
    place.proxy.refuses = True
    place.proxy.cut_all()
    async with asyncio.timeout(_TIMEOUT):
        while not was_made(errors.TargetUnavailable):  # connections that were there may have to be seen to be gone
            await place.post({"query": f"WITH w AS ({insert(tag)}) SELECT 1"})


@case(errors.TargetDown, breaker={"failures": 1})
async def nobody_was_there_for_some_time(place: Place, tag: str) -> None:
    place.proxy.refuses = True
    async with asyncio.timeout(_TIMEOUT):
        while not was_made(errors.TargetDown):
            await place.post(write(tag))


@case(errors.DatabaseMissing)
async def its_database_does_not_exist(place: Place, tag: str) -> None:
    await place.post(write(tag), to=replace(place.database, name="nowhere"))


@case(errors.KeyInFlight)
async def its_key_is_in_use(place: Place, tag: str) -> None:
    key = {"Idempotency-Key": f'"{tag}"'}
    first = asyncio.create_task(place.post(SLEEP, **key))
    await place.until_busy(SLEEPS)
    await place.post(SLEEP, **key)
    await place.direct.execute(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {SLEEPS}")
    await first


@case(errors.KeyReused)
async def its_key_was_anothers(place: Place, tag: str) -> None:
    key = {"Idempotency-Key": f'"{tag}"'}
    await place.post({"query": "SELECT 1"}, **key)
    await place.post(write(tag), **key)


@case(errors.NotCached)
async def it_is_to_come_from_the_cache(place: Place, tag: str) -> None:
    await place.post(write(tag), **{"Cache-Control": "only-if-cached"})


BEFORE = "is met before there is a connection for the write"
NOT_HERE: dict[str, tuple[str, str]] = {
    "BookmarkAhead": ("gateway/pools/test_route.py", f"{BEFORE}, while servers are chosen"),
    "BookmarkLost": ("integration/test_replicas.py", f"{BEFORE}, while servers are chosen"),
    "ClaimsFailed": ("gateway/idempotency/test_run.py", "comes from what is in front of the write, in its transaction"),
    "ConnectRefused": ("gateway/pools/test_connect.py", f"{BEFORE}: it is why there is none"),
    "FilesExhausted": ("gateway/pools/test_connect.py", f"{BEFORE}: it is why there is none"),
    "IdempotencyUnavailable": ("gateway/idempotency/test_store.py", f"{BEFORE}, while its key has no place"),
    "KeySetUnavailable": ("gateway/auth/test_jwks.py", f"{BEFORE}, while its token is looked at"),
    "KeysUnreadable": ("gateway/auth/test_api_keys.py", f"{BEFORE}, while its key is looked up"),
    "MethodNotAllowed": ("gateway/test_app.py", "is met before a body of any kind is read"),
    "ResultUnreadable": ("integration/test_has_run.py", "says yes, and needs a database whose text is bytes"),
    "ShuttingDown": ("gateway/pools/test_gate.py", f"{BEFORE}: it is why there is none"),
    "TargetMisconfigured": ("gateway/auth/test_own_access.py", f"{BEFORE}, by the gateway's own question"),
    "TargetOverloaded": ("gateway/pools/test_connect.py", f"{BEFORE}: it is why there is none"),
    "TooManyConnections": ("gateway/endpoints/test_listener.py", "is met before a byte of the write is read"),
}
"""Classes without a case: which test meets them, and what there is to say of the write."""


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────────────

_made: list[GatewayError] = []


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    _made.clear()
    begin = GatewayError.__init__

    def record(self: GatewayError, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        _made.append(self)

    monkeypatch.setattr(GatewayError, "__init__", record)


def was_made(kind: type[GatewayError]) -> bool:
    return any(type(error) is kind for error in list(_made))


async def made(kind: type[GatewayError]) -> None:
    """Until the gateway has met it."""
    async with asyncio.timeout(_TIMEOUT):
        while not was_made(kind):  # noqa: ASYNC110 - another thread makes it
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def world(postgres: Cluster) -> Iterator[tuple[LyingProxy, Database, Gateway]]:
    """A database behind a proxy, and the gateway before it."""
    with scratch_database(postgres) as database, lying_proxy(database) as proxy:
        database.psql("CREATE TABLE seen (v text)")
        through = replace(database, host="127.0.0.1", port=proxy.port)
        with gateway_in_thread(through.url, COMMON | {"keys": of_keys(through)}) as gateway:
            yield proxy, through, gateway


def of_keys(database: Database) -> dict[str, Any]:
    """What the keys may do."""
    named = [{"database": name, "role": "postgres"} for name in ("postgres", database.name, database.name)]
    return {
        key.id: {"hash": hash_of(key), **where, **given} for key, where, given in zip(keys, named, _GIVEN, strict=True)
    }


@pytest.fixture
async def place(
    request: pytest.FixtureRequest, postgres: Cluster, world: tuple[LyingProxy, Database, Gateway]
) -> AsyncIterator[Place]:
    proxy, database, gateway = world
    settings = CASES[request.param].settings
    async with AsyncExitStack() as stack:
        if settings:
            gateway = stack.enter_context(gateway_in_thread(database.url, COMMON | dict(settings)))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False))
        direct = await postgres.database(database.name).connect()
        stack.push_async_callback(direct.close)
        yield Place(gateway, database, proxy, http, direct, stack)
        proxy.tell_the_truth()


@pytest.mark.parametrize(("place", "name"), [(name, name) for name in CASES], indirect=["place"])
async def test_class_of_errors_says_of_a_write_what_is_so(place: Place, name: str) -> None:
    case = CASES[name]
    may = case.kind.ran is not HasRun.NO or case.kind is PostgresError
    for number in range(_TRIES if may else 1):
        tag = f"{name}-{number}"
        _made.clear()
        await case.happens(place, tag)
        if may and not was_made(case.kind):
            continue  # its time was over before it had begun
        assert was_made(case.kind), f"others were met: {_made}"
        told = next(error for error in _made if type(error) is case.kind).ran
        if place.answers:
            assert place.answers[-1].headers["sqlhttp-ran"] == told
        if not may:
            assert told is HasRun.NO
            assert not await place.is_there(tag)
        elif await place.is_there(tag):
            assert told is HasRun.MAYBE
            return
    assert not may, f"{_TRIES} writes, and none is there after this error: why does it say maybe?"


def classes() -> dict[str, type[GatewayError]]:
    """All of them, by their names."""
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, GatewayError) and kind is not GatewayError}


def test_every_class_has_a_case_or_a_reason_why_it_has_none() -> None:
    assert classes().keys() == CASES.keys() | NOT_HERE.keys()
    assert not CASES.keys() & NOT_HERE.keys()
    for where, _ in NOT_HERE.values():
        assert (TESTS / where).is_file()


def test_every_class_that_says_more_than_no_is_shown_to_be_right() -> None:
    unsure = {name for name, kind in classes().items() if kind.ran is HasRun.MAYBE}
    assert unsure <= CASES.keys()
