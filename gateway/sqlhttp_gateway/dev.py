"""`sqlhttp dev`: a gateway to try things on, with a private Postgres behind it unless there is another to use.

The role, password and database are those of the local recipes that people already have: postgres, postgres, main.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import asyncpg
from pydantic import SecretStr

from sqlhttp_gateway.embedded import PostgresFailed, PrivatePostgres
from sqlhttp_gateway.endpoints.origins import LOCAL
from sqlhttp_gateway.observe.logs import configure_logging
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.serve import GatewayServer
from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.sockets import Sockets, address, bind_all

ROLE = "postgres"
PASSWORD = "postgres"
DATABASE = "main"
DSN = f"postgres://{ROLE}:{PASSWORD}@localhost/{DATABASE}"


def dev(settings: Settings, folder: Path) -> int:
    """Run until Ctrl-C or SIGTERM; the exit status. The data stays in `folder` for the next time.

    With `database_url` set, that is the default target and `folder` is not used.

    Raises:
        ConfigurationError: the port cannot be had.
        PostgresFailed: the private Postgres cannot be started.
    """
    settings = _for_development(settings)
    with bind_all(settings) as [sockets]:  # first, since it is quick to fail
        return _run(settings, sockets, folder)


def _run(settings: Settings, sockets: Sockets, folder: Path) -> int:
    url = address(sockets.http, "https" if settings.listen.tls_certificate and settings.listen.https else "http")
    try:
        if settings.database_url is not None:
            return _serve(
                settings, sockets, banner(url, callers_dsn(settings), "The database is that of DATABASE_URL.")
            )
        _end_like_ctrl_c()
        _say("Starting a private Postgres …")
        with PrivatePostgres(folder, PASSWORD) as postgres:
            _ensure_database(postgres)
            about = f"Data and Postgres's log are in {_short(folder)}; Postgres itself is at {postgres.url(DATABASE)}."
            settings = settings.model_copy(update={"database_url": SecretStr(postgres.shortest_url(DATABASE))})
            return _serve(settings, sockets, banner(url, DSN, about), postgres)
    except KeyboardInterrupt:
        return 0


def _for_development(settings: Settings) -> Settings:
    """One worker; and with a password that everybody knows, no page but this machine's own may come in."""
    changes: dict[str, object] = {"listen": settings.listen.model_copy(update={"workers": 1})}
    if "allow_origins" not in settings.request.model_fields_set:
        changes["request"] = settings.request.model_copy(update={"allow_origins": (LOCAL,)})
    return settings.model_copy(update=changes)


def _serve(settings: Settings, sockets: Sockets, text: str, postgres: PrivatePostgres | None = None) -> int:
    configure_logging(settings.log)
    server = GatewayServer(settings, sockets, ready=lambda: _say(text))
    lost = threading.Event()
    if postgres is not None:
        threading.Thread(target=_watch, args=(postgres, server, lost), daemon=True).start()
    status = server.serve_until_told()
    if lost.is_set() and postgres is not None:
        raise PostgresFailed(f"The private Postgres ended by itself; {_short(postgres.log)} says why.")
    return status


def _watch(postgres: PrivatePostgres, server: GatewayServer, lost: threading.Event) -> None:
    postgres.wait()
    if not server.should_exit:
        lost.set()
        server.should_exit = True


def _end_like_ctrl_c() -> None:
    """SIGTERM, and the terminal's closing, unwind like Ctrl-C, or Postgres would outlive its owner."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _ensure_database(postgres: PrivatePostgres) -> None:
    """The log-in that the banner promises works, and the database is there."""
    try:
        try:
            asyncio.run(_create_database(postgres.url("postgres")))
        except asyncpg.InvalidPasswordError:
            _say(f"The role {ROLE} had another password; it is {PASSWORD!r} again, as everything here expects.")
            postgres.restore_password()
            asyncio.run(_create_database(postgres.url("postgres")))
    except (asyncpg.PostgresError, OSError) as error:
        raise PostgresFailed(f"The private Postgres started, but cannot be used: {error}") from error


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=10)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


def callers_dsn(settings: Settings) -> str:
    """What a caller of the default target says, with a word for the password, which is not for a terminal to keep.

    Drivers need the name of a host, also where the gateway itself goes by a Unix socket.

    Raises:
        ConfigurationError: database_url cannot be used.
    """
    upstream = Targets(settings).default
    target, admin = upstream.target, upstream.admin
    host = f"[{target.host}]" if ":" in target.host else target.host
    where = next(iter(settings.aliases), "localhost") if target.is_socket else f"{host}:{target.port}"
    return f"postgres://{quote(admin.role, safe='')}:PASSWORD@{where}/{quote(admin.database, safe='')}"


def banner(url: str, dsn: str, about: str) -> str:
    """What `sqlhttp dev` says when it answers requests."""
    parts = [f"sqlhttp is ready on {url}"]
    parts += [f"{title}\n\n{_indented(recipe)}" for title, recipe in recipes(url, dsn).items()]
    return "\n" + "\n\n".join([*parts, about, "Ctrl-C ends it."]) + "\n"


def recipes(url: str, dsn: str) -> dict[str, str]:
    """Three lines to paste for each of three languages; the README has the same."""
    endpoint = "" if url == "http://127.0.0.1:4444" else f', endpoint="{url}"'  # the client's own default
    return {
        "curl": f"""\
curl {url}/sql \\
  -H 'Neon-Connection-String: {dsn}' \\
  -d '{{"query": "select 40 + $1::int as answer", "params": [2]}}'""",
        "JavaScript": f"""\
import {{ neon, neonConfig }} from '@neondatabase/serverless'
neonConfig.fetchEndpoint = '{url}/sql'
console.log(await neon('{dsn}')`select 40 + ${{2}}::int as answer`)""",
        "Python": f"""\
from sqlhttp import neon
sql = neon("{dsn}"{endpoint})
print(sql("select 40 + $1::int as answer", 2))""",
    }


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def _short(path: Path) -> str:
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
