"""The console: a virtual database whose only statements are SHOW and what an operator can do, as PgBouncer has them.

So what reads PgBouncer's console, its exporters and dashboards among it, reads the gateway's. Only simple queries are
answered, as there. What a column has no number for here is 0 or empty.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlhttp_gateway.errors import BadRequest, GatewayError, UnsupportedStatement
from sqlhttp_gateway.model import Field
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.tunnel.controls import Controls
from sqlhttp_gateway.tunnel.stream import Stream, StreamClosed
from sqlhttp_gateway.wire.backend import (
    IDLE,
    AuthenticationOk,
    EmptyQueryResponse,
    encode_command_complete,
    encode_data_row,
    encode_error_response,
    encode_notice_response,
    encode_parameter_status,
    encode_ready_for_query,
    encode_row_description,
)
from sqlhttp_gateway.wire.buffer import MessageBuffer
from sqlhttp_gateway.wire.frontend import TERMINATE

DATABASE = "sqlhttp"
"""Its name, on the TCP door."""
MAX_QUERY = 10_000
MAX_BEHIND = 100
"""Messages that may come behind a PAUSE which is under way."""
_INT8, _TEXT = 20, 25
_READY = encode_ready_for_query(IDLE)
_SIMPLE_ONLY = UnsupportedStatement("the console answers simple queries only")
_HELP = (
    "SHOW HELP|VERSION|POOLS|STATS|DATABASES|CLIENTS|SERVERS|LISTS|CONFIG; "
    "PAUSE [db]; RESUME [db]; RECONNECT [db]; RELOAD"
)

_COMMAND = re.compile(r"""\s*([A-Za-z]+)(?:\s+("(?:[^"]|"")+"|[^\s";]+))?[\s;]*""")
"""A word, and a name, which may be quoted as in SQL."""

Cell = str | int | None


@dataclass(frozen=True, slots=True)
class Table:
    """What a SHOW answers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Client:
    """One connected program."""

    door: str
    database: str
    role: str
    peer: str
    application_name: str
    state: str
    """active, waiting or idle."""
    backend_pid: int
    """0 while it has none."""
    connected_at: float = 0.0
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the console looks. Clients and servers are those of this worker, all else is of all workers together."""

    version: str
    database: Callable[[], str]
    """A real one, in which who is asking can prove it."""
    roles: Callable[[], frozenset[str]]
    """Who may ask."""
    report: Callable[[], Report]
    now: Callable[[], float]
    """Unix time."""
    registry: PoolRegistry
    clients: Callable[[], Iterable[Client]]
    pool_mode: Callable[[str, str], str]
    """Of a database, and of a role in it; an empty role is all that have none of their own."""
    controls: Controls
    settings: Callable[[], Iterable[tuple[str, str, str]]]
    """Name, value and default; secrets are not among them."""


class Console:
    """Answers one program."""

    def __init__(self, stream: Stream, sources: Sources) -> None:
        self._stream = stream
        self._sources = sources
        self._behind: deque[bytes] = deque()
        """What was asked while something was under way."""

    async def run(self, rest: bytes) -> GatewayError | None:
        """Until the program leaves; `rest` is what it sent behind its password.

        Raises:
            StreamClosed: it has gone.
        """
        await self._stream.send(self._greeting())
        buffer = MessageBuffer(max_size=MAX_QUERY)
        buffer.receive(rest)
        while True:
            try:
                frame = self._behind.popleft() if self._behind else buffer.next_frame()
            except BadRequest as error:
                await self._stream.send(encode_error_response(error, severity="FATAL"))
                return error
            if frame is None:
                buffer.receive(await self._stream.receive())
            elif frame[:1] == TERMINATE[:1]:
                return None
            elif frame[:1] == b"Q":
                text = frame[5:-1].decode(errors="replace")
                await self._stream.send(await self._answer(text, buffer) + _READY)
            elif frame[:1] == b"S":
                await self._stream.send(encode_error_response(_SIMPLE_ONLY) + _READY)

    def _greeting(self) -> bytes:
        told = {
            "server_version": f"{self._sources.version}/sqlhttp",
            "client_encoding": "UTF8",
            "server_encoding": "UTF8",
            "DateStyle": "ISO",
            "TimeZone": "GMT",
            "standard_conforming_strings": "on",
        }
        return AuthenticationOk + b"".join(encode_parameter_status(*pair) for pair in told.items()) + _READY

    async def _answer(self, text: str, buffer: MessageBuffer) -> bytes:
        if not text.strip("; \t\r\n"):
            return EmptyQueryResponse
        command = _COMMAND.fullmatch(text)
        verb, name = (command[1].lower(), command[2]) if command is not None else ("", None)
        what = name.lower() if name is not None else ""
        if verb == "show" and what == "help":
            return encode_notice_response(_HELP) + encode_command_complete("SHOW")
        if verb == "show" and what in _SHOWS:
            return encode_table(_SHOWS[what](self._sources))
        if verb in {"pause", "resume", "reconnect"} or (verb == "reload" and name is None):
            database = name[1:-1].replace('""', '"') if name is not None and name.startswith('"') else name
            try:
                await self._act(verb, database, buffer)
            except GatewayError as error:
                return encode_error_response(error)
            return self._doubt(database) + encode_command_complete(verb.upper())
        return encode_error_response(UnsupportedStatement(f"invalid command {text!r}", hint=_HELP))

    def _doubt(self, database: str | None) -> bytes:
        """A word to whoever may have meant another: there need not be a pool, and a wrong name does nothing."""
        if database is None or any(pool.database == database for pool in self._sources.report().pools):
            return b""
        return encode_notice_response(
            f'there is no pool for a database "{database}" just now; its name is that in Postgres, on whichever target'
        )

    async def _act(self, verb: str, database: str | None, buffer: MessageBuffer) -> None:
        """
        Raises:
            UnsupportedStatement: there is nothing to resume, or nothing is read again.
            StreamClosed: the program has gone, and what it waited for is off.
        """
        controls = self._sources.controls
        match verb:
            case "pause":
                await self._while_there(controls.pause(database), buffer)
            case "resume":
                if not controls.resume(database):
                    raise UnsupportedStatement(
                        f"database {database} is not paused" if database else "nothing is paused"
                    )
            case "reconnect":
                controls.reconnect(database)
            case _:
                controls.reload()

    async def _while_there(self, work: Coroutine[Any, Any, None], buffer: MessageBuffer) -> None:
        """Wait for `work` as long as the program does, which says goodbye before it goes.

        Raises:
            StreamClosed: it has gone.
            BadRequest: it sends too much meanwhile.
        """
        working = asyncio.ensure_future(work)
        receiving = asyncio.ensure_future(self._stream.receive())
        try:
            while not working.done():
                await asyncio.wait((working, receiving), return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    buffer.receive(receiving.result())
                    receiving = asyncio.ensure_future(self._stream.receive())
                    self._take_behind(buffer, may_leave=working.done())
            await working
        finally:
            for task in (working, receiving):
                task.cancel()
            await asyncio.gather(working, receiving, return_exceptions=True)

    def _take_behind(self, buffer: MessageBuffer, *, may_leave: bool) -> None:
        while (frame := buffer.next_frame()) is not None:
            if frame[:1] == TERMINATE[:1] and not may_leave:
                raise StreamClosed
            self._behind.append(frame)
            if len(self._behind) > MAX_BEHIND:
                raise BadRequest(f"more than {MAX_BEHIND} messages behind one that is not answered yet")


def encode_table(table: Table) -> bytes:
    """RowDescription, rows and CommandComplete."""
    kinds = [_INT8 if table.rows and isinstance(cell, int) else _TEXT for cell in (table.rows or [()])[0]]
    kinds += [_TEXT] * (len(table.columns) - len(kinds))
    fields = [
        Field(name, 0, 0, kind, 8 if kind == _INT8 else -1, -1) for name, kind in zip(table.columns, kinds, strict=True)
    ]
    rows = [encode_data_row([None if cell is None else str(cell).encode() for cell in row]) for row in table.rows]
    return encode_row_description(fields) + b"".join(rows) + encode_command_complete("SHOW")


def _alias(target: str, database: str) -> str:
    return database if target == DEFAULT else f"{target}/{database}"


def _version(sources: Sources) -> Table:
    return Table(("version",), ((f"sqlhttp {sources.version}",),))


_POOLS = (
    "database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active",
    "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait", "maxwait_us",
    "pool_mode", "load_balance_hosts",
)  # fmt: skip


def _pools(sources: Sources) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pool in sources.report().pools:
        wait = round(pool.longest_wait * 1_000_000)
        rows.append(
            (
                *(_alias(pool.target, pool.database), pool.role, pool.leased, pool.waiting, 0, 0, pool.leased, 0, 0),
                *(pool.idle, 0, pool.returning, pool.opening, wait // 1_000_000, wait % 1_000_000),
                *(sources.pool_mode(pool.database, pool.role), None),
            )
        )
    return Table(_POOLS, tuple(rows))


_TOTALS = (
    "server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time", "wait_time",
    "client_parse_count", "server_parse_count", "bind_count",
)  # fmt: skip

_AVERAGES = {"received": "recv"}
"""Where PgBouncer calls an average otherwise than its total."""


def _stats(sources: Sources) -> Table:
    """Times are microseconds, averages are since the start: by second, or by transaction, query or assignment."""
    report = sources.report()
    uptime = max(1, round(sources.now() - report.started))
    rows: list[tuple[Cell, ...]] = []
    for (target, database), counts in report.counts.databases.items():
        if not target:
            continue
        busy = round((counts.query_seconds.sum + counts.transaction_seconds.sum) * 1_000_000)
        waited = round(counts.wait_seconds.sum * 1_000_000)
        totals = (
            *(counts.executed, counts.executed, counts.statements, counts.bytes_in, counts.bytes_out, busy, busy),
            *(waited, counts.statements, counts.parsed, counts.parsed + counts.reused),
        )
        averages = [total // uptime for total in totals]
        averages[5] = busy // max(1, counts.executed)
        averages[6] = busy // max(1, counts.statements)
        averages[7] = waited // max(1, counts.executed)
        rows.append((_alias(target, database), *totals, *averages))
    columns = (*(f"total_{name}" for name in _TOTALS), *(f"avg_{_AVERAGES.get(name, name)}" for name in _TOTALS))
    return Table(("database", *columns), tuple(rows))


_DATABASES = (
    "name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool_size",
    "server_lifetime", "pool_mode", "load_balance_hosts", "max_connections", "current_connections",
    "max_client_connections", "current_client_connections", "paused", "disabled",
)  # fmt: skip


def _databases(sources: Sources) -> Table:
    report = sources.report()
    members: dict[tuple[str, str], list[Sequence[int]]] = {}
    hosts: dict[tuple[str, str], tuple[str, int]] = {}
    for pool in report.pools:
        key = (pool.target, pool.database)
        hosts[key] = (pool.host, pool.port)
        members.setdefault(key, []).append(
            (pool.max_size, pool.connections, pool.leased + pool.waiting, pool.is_paused)
        )
    return Table(
        _DATABASES,
        tuple(
            (
                *(_alias(*key), *hosts[key], key[1], None, max(each[0] for each in of), 0, 0, 0),
                *(sources.pool_mode(key[1], ""), None, report.connections_limit, sum(each[1] for each in of), 0),
                *(sum(each[2] for each in of), int(any(each[3] for each in of)), 0),
            )
            for key, of in members.items()
        ),
    )


_CONNECTIONS = (
    "type", "user", "database", "replication", "state", "addr", "port", "local_addr", "local_port", "connect_time",
    "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid", "tls", "application_name",
    "prepared_statements", "id",
)  # fmt: skip
"""Of SHOW CLIENTS and SHOW SERVERS alike."""


def _clients(sources: Sources) -> Table:
    return Table(
        (*_CONNECTIONS, "door"),
        tuple(
            (
                *("C", each.role, each.database, "none", each.state, each.peer, 0, "", 0, _moment(each.connected_at)),
                *("", 0, 0, 0, f"client-{number}", _server_name(each.backend_pid), each.backend_pid, ""),
                *(each.application_name, 0, number, each.door),
            )
            for number, each in enumerate(sources.clients(), 1)
        ),
    )


def _servers(sources: Sources) -> Table:
    rows: list[tuple[Cell, ...]] = []
    now = asyncio.get_running_loop().time()
    links = {each.backend_pid: f"client-{number}" for number, each in enumerate(sources.clients(), 1)}
    for pool in sources.registry.pools:
        key, host = pool.key, pool.upstream.target
        address = "unix" if host.is_socket else host.host  # as PgBouncer says it
        for state, backends in (("active", pool.leased), ("tested", pool.returning), ("idle", pool.idle_backends)):
            for each in backends:
                opened = _moment(sources.now() - (now - each.opened_at))
                prepared = len(each.statements) + len(each.tunnels.statements)
                rows.append(
                    (
                        *("S", key.role, _alias(key.target, key.database), "none", state, address, host.port, "", 0),
                        *(opened, "", 0, 0, int(each.closing), _server_name(each.pid), links.get(each.pid, "")),
                        *(each.pid, "TLS" if each.is_encrypted else "", "", prepared, each.pid),
                    )
                )
    return Table(_CONNECTIONS, tuple(rows))


def _server_name(pid: int) -> str:
    return f"server-{pid}" if pid else ""


def _moment(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _lists(sources: Sources) -> Table:
    report = sources.report()
    leased = sum(pool.leased for pool in report.pools)
    numbers = {
        "databases": len({(pool.target, pool.database) for pool in report.pools}),
        "users": len({pool.role for pool in report.pools}),
        "pools": len(report.pools),
        "used_clients": report.tunnels,
        "free_servers": max(0, report.connections_limit - report.connections),
        "used_servers": leased,
    }
    return Table(("list", "items"), tuple(numbers.items()))


def _config(sources: Sources) -> Table:
    return Table(
        ("key", "value", "default", "changeable"),
        tuple((name, value, default, "no") for name, value, default in sources.settings()),
    )


_SHOWS: dict[str, Callable[[Sources], Table]] = {
    "version": _version,
    "pools": _pools,
    "stats": _stats,
    "databases": _databases,
    "clients": _clients,
    "servers": _servers,
    "lists": _lists,
    "config": _config,
}
