"""The console: a virtual database whose only statements are SHOW, with PgBouncer's column names.

So what reads PgBouncer's console, its exporters and dashboards among it, reads the gateway's. Only simple queries are
answered, as there. What a column has no number for here is 0 or empty.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlhttp_gateway.errors import BadRequest, GatewayError, UnsupportedStatement
from sqlhttp_gateway.model import Field
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.tunnel.stream import Stream
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

DATABASE = "sqlhttp"
"""Its name, on the TCP door."""
MAX_QUERY = 10_000
_INT8, _TEXT = 20, 25
_READY = encode_ready_for_query(IDLE)
_SIMPLE_ONLY = UnsupportedStatement("the console answers simple queries only")
_HELP = "SHOW HELP|VERSION|POOLS|STATS|DATABASES|CLIENTS|SERVERS|LISTS|CONFIG"

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
    settings: Callable[[], Iterable[tuple[str, str, str]]]
    """Name, value and default; secrets are not among them."""


class Console:
    """Answers one program."""

    def __init__(self, stream: Stream, sources: Sources) -> None:
        self._stream = stream
        self._sources = sources

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
                frame = buffer.next_frame()
            except BadRequest as error:
                await self._stream.send(encode_error_response(error, severity="FATAL"))
                return error
            if frame is None:
                buffer.receive(await self._stream.receive())
            elif frame[:1] == b"X":
                return None
            elif frame[:1] == b"Q":
                await self._stream.send(self._answer(frame[5:-1].decode(errors="replace")) + _READY)
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

    def _answer(self, text: str) -> bytes:
        words = text.replace(";", " ").lower().split()
        if not words:
            return EmptyQueryResponse
        if words == ["show", "help"] or words[0] != "show" or len(words) != 2 or words[1] not in _SHOWS:
            if words == ["show", "help"]:
                return encode_notice_response(_HELP) + encode_command_complete("SHOW")
            return encode_error_response(UnsupportedStatement(f"invalid command {text!r}", hint=_HELP))
        return encode_table(_SHOWS[words[1]](self._sources))


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
                *("transaction", None),
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
        members.setdefault(key, []).append((pool.max_size, pool.connections, pool.leased + pool.waiting))
    return Table(
        _DATABASES,
        tuple(
            (
                *(_alias(*key), *hosts[key], key[1], None, max(size for size, _, _ in each), 0, 0, 0, "transaction"),
                *(None, report.connections_limit, sum(count for _, count, _ in each), 0),
                *(sum(count for _, _, count in each), 0, 0),
            )
            for key, each in members.items()
        ),
    )


_CLIENTS = ("type", "user", "database", "state", "addr", "application_name", "remote_pid", "door")


def _clients(sources: Sources) -> Table:
    return Table(
        _CLIENTS,
        tuple(
            ("C", each.role, each.database, each.state, each.peer, each.application_name, each.backend_pid, each.door)
            for each in sources.clients()
        ),
    )


_SERVERS = ("type", "user", "database", "state", "addr", "port", "remote_pid")


def _servers(sources: Sources) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pool in sources.registry.pools:
        host = pool.upstream.target
        for state, backends in (("active", pool.leased), ("tested", pool.returning), ("idle", pool.idle_backends)):
            rows += [
                ("S", pool.key.role, _alias(pool.key.target, pool.key.database), state, host.host, host.port, each.pid)
                for each in backends
            ]
    return Table(_SERVERS, tuple(rows))


def _lists(sources: Sources) -> Table:
    report, clients = sources.report(), list(sources.clients())
    leased = sum(pool.leased for pool in report.pools)
    numbers = {
        "databases": len({(pool.target, pool.database) for pool in report.pools}),
        "users": len({pool.role for pool in report.pools}),
        "pools": len(report.pools),
        "used_clients": len(clients),
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
