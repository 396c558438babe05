"""Secrets that sing: each is a text of its own, put wherever one can stand, and looked for wherever a gateway speaks.

A caller is told their own values by Postgres, and by nobody else: what answers say is searched for credentials and for
the operator's secrets, and all that is not the caller's (log, metrics, status, console, traces, audit, alerts, reports)
for everything.
"""

import asyncio
import base64
import gc
import io
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from pydantic import BaseModel
from websockets.exceptions import WebSocketException

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.observe.logs import JsonFormatter, TextFormatter
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.settings.whole import shown
from sqlhttp_gateway.sql import carrier
from tests.support.certificates import Authority
from tests.support.cluster import Cluster, Database
from tests.support.collector import running_collector
from tests.support.gateway import Gateway, GatewayProcess, free_port, gateway_in_thread
from tests.support.program import TIMEOUT, scratch_database
from tests.support.wire_program import SocketPipe, WireProgram, extended, logged_in, startup

CALLERS = ("parameter", "literal", "body")
"""Secrets that Postgres may tell the caller whose they are."""
CONSOLE = ("VERSION", "POOLS", "STATS", "DATABASES", "CLIENTS", "SERVERS", "LISTS", "CONFIG", "HELP")


class Secrets(dict[str, str]):
    """Name and text of each; `found` says which stand in a text, plainly or in one of their usual disguises."""

    def found(self, where: str, *, but: tuple[str, ...] = ()) -> list[str]:
        return [
            name
            for name, secret in self.items()
            if name not in but and any(form in where for form in {secret, quote(secret, safe=""), _base64(secret)})
        ]


def _base64(secret: str) -> str:
    """What base64 of anything that begins with the secret begins with."""
    return base64.b64encode(secret.encode() + b"  ").decode()[: len(secret) // 3 * 4]


@dataclass
class Heard:
    """What was said, and where."""

    aloud: dict[str, str] = field(default_factory=dict)
    """To somebody else than the caller."""
    answers: list[str] = field(default_factory=list)

    def sings(self, secrets: Secrets) -> list[str]:
        """Every secret that was heard, with the place."""
        aloud = [f"{name} in {place}" for place, text in self.aloud.items() for name in secrets.found(text)]
        told = [f"{name} in {text}" for text in self.answers for name in secrets.found(text, but=CALLERS)]
        return aloud + told


@dataclass(frozen=True)
class Scene:
    """A database with a role, all secrets, and settings that know those of the operator."""

    secrets: Secrets
    settings: dict[str, Any]
    database: Database
    key: str
    audit: Path
    posted: list[str]

    def token(self, **claims: object) -> str:
        given = {"sub": "ann", "exp": int(time.time()) + 600, **claims}
        return jwt.encode(given, self.secrets["issuer's secret"], algorithm="HS256")


@pytest.fixture
def scene(postgres: Cluster, tmp_path: Path) -> Iterator[Scene]:
    secrets = Secrets(
        {
            name: f"canary{number}{'x7f3aq' * 5}"
            for number, name in enumerate(
                (
                    *("password", "wrong password", "gateway's password", "login's password", "issuer's secret"),
                    *("webhook secret", "webhook path", "redis password", "idempotency key", *CALLERS),
                )
            )
        }
    )
    key = new_key()
    secrets["API key"] = key.text.rpartition("_")[2]
    files = Authority(tmp_path).issue()
    secrets["TLS key"] = files.key.read_text().splitlines()[2]
    with ExitStack() as stack:
        database = stack.enter_context(scratch_database(postgres))
        port, posted = stack.enter_context(_receiver())
        for role, password, more in (
            ("canary_teller", secrets["password"], ""),
            ("canary_keeper", secrets["gateway's password"], "SUPERUSER"),
            ("canary_login", secrets["login's password"], ""),
        ):
            postgres.maintenance.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}' {more}")
            stack.callback(postgres.maintenance.psql, f"DROP OWNED BY {role}; DROP ROLE {role}")
        stack.callback(database.psql, "DROP OWNED BY canary_teller, canary_login, canary_keeper")
        database.psql("CREATE TABLE seen (v text UNIQUE); GRANT ALL ON seen TO canary_teller, canary_login")
        audit = tmp_path / "audit.jsonl"
        settings: dict[str, Any] = {
            "database_url": database.as_role("canary_keeper", secrets["gateway's password"]).url,
            "listen": {"postgres": free_port(), "https": False},
            "log": {"level": "debug", "requests": "all", "slow_statement": 0.000001},
            "audit": {"statements": "shapes", "file": str(audit)},
            "request": {"max_bytes": 5000},
            "response": {"max_bytes": 100_000},
            "statement": {"timeout": 0.3},
            "logins": {"a": {"role": "canary_login", "password": secrets["login's password"]}},
            "keys": {key.id: {"hash": hash_of(key), "database": database.name, "role": "canary_login"}},
            "issuers": {"i": {"secret": secrets["issuer's secret"], "roles": ["canary_login"]}},
            "watch": {
                "interval": 0.05,
                "long_query": 0.1,
                "webhook_url": f"http://127.0.0.1:{port}/{secrets['webhook path']}",
                "webhook_secret": secrets["webhook secret"],
            },
            "cache": {"shared_url": f"redis://:{secrets['redis password']}@127.0.0.1:{free_port()}/0"},
            "trace": {"comment": True, "opentelemetry": True},
        }
        settings["listen"] |= {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
        yield Scene(secrets, settings, database, key.text, audit, posted)


@contextmanager
def _receiver() -> Iterator[tuple[int, list[str]]]:
    """Who gets alerts: its port, and the bodies and signatures that came."""
    posted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            posted.append(f"{self.headers}{body}")
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_port, posted
        finally:
            listening.shutdown()
            thread.join()


def requests(scene: Scene) -> Iterator[tuple[object, Mapping[str, str | None]]]:
    """Bodies and headers, good and bad; each has secrets in it, and most end in an error of another class."""
    secrets = scene.secrets
    teller = scene.database.as_role("canary_teller", secrets["password"])
    named = f"postgres://canary_login@db/{scene.database.name}"
    value, literal = secrets["parameter"], secrets["literal"]
    good = {"query": f"SELECT $1::text AS a, '{literal}' AS b", "params": [value]}
    write = {"query": f"INSERT INTO seen VALUES ($1 || '{literal}')", "params": [value]}
    own = {"Neon-Connection-String": teller.url}
    for body in (
        good,
        {"queries": [good, {"query": f"SELECT $q${literal}$q$ -- {literal}"}]},
        {"query": f"SELECT 1 FROM nowhere WHERE v = '{literal}'"},
        {"query": "SELECT $1::int", "params": [value]},
        {"query": f"SELECT '{literal}'::int"},
        {"query": f"DO $$ BEGIN RAISE 'no %', '{literal}' USING DETAIL = '{literal}', HINT = '{literal}'; END $$"},
        {"query": f"DO $$ BEGIN RAISE WARNING '{literal}'; END $$"},
        {"query": f"SELECT pg_sleep(60), $1::text, '{literal}'", "params": [value]},
        {"query": "SELECT repeat($1, 1000000)", "params": [value]},
        {"query": "SELECT 1", "params": [value * 1000]},
        {"query": f"SELECT pg_terminate_backend(pg_backend_pid()), '{literal}'"},
        {"query": f"COPY seen FROM STDIN -- {literal}"},
        {"queries": [{"query": f"SELECT '{literal}'; SELECT 2"}]},
        {"query": 1, "params": [value]},
        {"query": "SELECT 1", "params": {"a": secrets["body"]}},
        f'{{"query": "{secrets["body"]}'.encode(),
        f'{{"query": "\\ud800{secrets["body"]}"}}'.encode(),
        {secrets["body"]: 1},
    ):
        yield body, own
    keyed = own | {"Idempotency-Key": f'"{secrets["idempotency key"]}"'}
    yield write, keyed
    yield write, keyed
    yield good, keyed
    yield write, own
    yield {"query": "COMMIT"}, keyed
    yield good, own | {"Idempotency-Key": secrets["idempotency key"]}
    yield good, own | {"Cache-Control": "max-age=60", "Sqlhttp-Cache-Tags": "users"}
    yield good, own | {"Cache-Control": "only-if-cached"}
    yield good, own | {"Sqlhttp-Timeout": "0.000001"}
    yield good, own | {"Sqlhttp-Timeout": secrets["body"]}
    yield good, own | {"Neon-Batch-Isolation-Level": secrets["body"]}
    yield good, own | {"Sqlhttp-Bookmark": secrets["body"]}
    yield good, own | {"Traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "Origin": "https://elsewhere.example"}
    wrong = secrets["wrong password"]
    for url in (
        teller.as_role("canary_teller", wrong).url,
        f"postgres://nobody:{wrong}@db/{scene.database.name}",
        f"postgres://canary_teller:{secrets['password']}@db/no_such_database",
        f"postgres://canary_teller:{secrets['password']}@db:99999/{scene.database.name}",
        f"postgres://canary_teller:{secrets['password']}@one,two/{scene.database.name}",
        f"postgres://canary_teller:{secrets['password']}@/{scene.database.name}",
        f"mysql://{wrong}:{wrong}@{wrong}/x",
        f"postgres://canary_teller:{wrong}%zz@db/{scene.database.name}",
        wrong,
        f"{teller.url}?options=-c%20{wrong}%3D1",
        f"{teller.url}?sslpassword={wrong}&channel_binding=require",
        None,
    ):
        yield good, {"Neon-Connection-String": url}
    token = scene.token(role="canary_login")
    for proof in (
        scene.key,
        scene.key[:-1] + ("a" if scene.key[-1] != "a" else "b"),
        token,
        scene.token(exp=1),
        scene.token(nbf=4102444800),
        f"{token[:-8]}AAAAAAAA",
        token.replace(".", "!"),
        secrets["wrong password"],
        f"{secrets['wrong password']} {secrets['wrong password']}",
    ):
        yield good, {"Neon-Connection-String": named, "Authorization": f"Bearer {proof}"}
        yield good, {"Neon-Connection-String": named.replace("@", f":{quote(proof)}@")}
        basic = base64.b64encode(f"{proof}:".encode()).decode()
        yield good, {"Neon-Connection-String": None, "Authorization": f"Basic {basic}"}


async def over_the_wire(gateway: Gateway, scene: Scene, heard: Heard) -> None:
    """The same through tunnels, by both doors, and the console's reports."""
    secrets = scene.secrets
    teller = scene.database.as_role("canary_teller", secrets["password"])
    async with logged_in(gateway, teller, {"application_name": "teller"}) as program:
        for text in (
            f"SELECT '{secrets['literal']}'",
            f"SELECT '{secrets['literal']}'::int",
            f"SET a.b TO '{secrets['literal']}'",
            f"PREPARE p AS SELECT '{secrets['literal']}'; CREATE TEMP TABLE t AS SELECT '{secrets['literal']}' AS a",
        ):
            await program.query(text)
        await program.send(extended("SELECT $1::int", secrets["parameter"]))
        await program.answer()
        heard.aloud["console"] = await _console(scene)
        await program.send(b"Q\0\0\0\5" + secrets["body"].encode())
    for role, password in (
        ("canary_teller", secrets["wrong password"]),
        ("nobody", secrets["wrong password"]),
        ("canary_login", scene.key),
        ("canary_login", scene.token(exp=1)),
    ):
        with suppress(AssertionError, WebSocketException):
            async with logged_in(gateway, scene.database.as_role(role, password)):
                pass


async def _console(scene: Scene) -> str:
    keeper = Database(
        "127.0.0.1",
        scene.settings["listen"]["postgres"],
        "sqlhttp",
        "canary_keeper",
        scene.secrets["gateway's password"],
    )
    reader, writer = await asyncio.open_connection(keeper.host, keeper.port)
    async with WireProgram(SocketPipe(reader, writer), keeper) as program:
        await program.send(startup(keeper) + program.password())
        assert (await program.greeted()).status == "I"
        answers = [await program.query(f"SHOW {what}") for what in CONSOLE]
        return repr([[message.body for message in answer.messages] for answer in answers])


def visit(gateway: Gateway, scene: Scene) -> Heard:
    """Ask everything that there is to be asked."""
    heard = Heard()
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
        for body, headers in requests(scene):
            given = {name: value for name, value in headers.items() if value is not None}
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            response = http.post(gateway.sql, content=content, headers=given)
            assert response.status_code != 500 or "could not" in response.text or "message" in response.text
            heard.answers.append(f"{response.headers}{response.text}")
        body = {"tags": ["users"]}
        for proof in (scene.key, scene.secrets["wrong password"]):
            response = http.post(
                f"{gateway.url}/cache/invalidate", json=body, headers={"Authorization": f"Bearer {proof}"}
            )
            heard.answers.append(f"{response.headers}{response.text}")
        asyncio.run(over_the_wire(gateway, scene, heard))
        deadline = time.monotonic() + 20
        while not scene.posted and time.monotonic() < deadline:
            http.post(
                gateway.sql,
                json={"query": f"SELECT pg_sleep(0.25), '{scene.secrets['literal']}'"},
                headers={"Neon-Connection-String": scene.settings["database_url"]},
            )
        assert scene.posted, "no alert came"
        for path in ("/metrics", "/status", "/livez", "/readyz", "/openapi.json", "/nowhere"):
            response = http.get(f"{gateway.url}{path}", headers={"Authorization": f"Bearer {scene.key}"})
            heard.aloud[path] = f"{response.headers}{response.text}"
    heard.aloud["webhook"] = "".join(each.replace(scene.secrets["webhook path"], "") for each in scene.posted)
    return heard


def toml(settings: Mapping[str, Any], above: str = "") -> str:
    """A settings file."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if not isinstance(value, dict)]
    tables = [toml(value, f"{above}{name}.") for name, value in settings.items() if isinstance(value, dict)]
    return "\n".join([f"[{above[:-1]}]" if above else "", *plain, *tables])


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_heard_anywhere(form: str, scene: Scene, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    settings = scene.settings | {"log": {**scene.settings["log"], "format": form}}
    settings["listen"] |= {"port": port}
    file = tmp_path / "sqlhttp.toml"
    file.write_text(toml(settings))
    with running_collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "NO_PROXY": "127.0.0.1"}
        with GatewayProcess("serve", "--config", str(file), environment=environment, log=log) as process:
            process.wait_until_ready(f"http://127.0.0.1:{port}")
            heard = visit(Gateway(f"http://127.0.0.1:{port}", load_settings(**settings)), scene)
            assert process.stop() == 0
        heard.aloud["log"] = process.output
        heard.aloud["audit"] = scene.audit.read_text()
        heard.aloud["traces"] = repr(collector.received)
    assert heard.aloud["log"].count("request answered") > 50
    assert heard.aloud["log"].count("slow statement") > 5
    assert len(collector.spans) > 100
    assert heard.aloud["audit"].count("\n") > 30
    assert heard.sings(scene.secrets) == []


def test_check_tells_no_secret(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sqlhttp.toml"
    for change in ({}, {"database_url": f"postgres://a:{scene.secrets['password']}@127.0.0.1:1/x"}):
        file.write_text(toml(scene.settings | change))
        for flags in ([], ["--json"]):
            cli.main(["check", "--config", str(file), *flags])
    for wrong in ("database_url = 5", "nonsense = 1", "[pool]\nmax_size = 'a'"):
        file.write_text(f"{wrong}\n{toml(scene.settings).replace('database_url', '# database_url')}")
        with suppress(SystemExit):
            cli.main(["check", "--config", str(file)])
    said = capsys.readouterr()
    assert len(said.out) > 2000
    assert scene.secrets.found(said.out + said.err) == []


def test_nothing_that_is_held_or_goes_wrong_shows_a_secret(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the gateway's own whose text is a value; and `repr` of all that exists while requests run."""

    async def fails(*_: object, **__: object) -> None:
        try:
            {}[scene.secrets["parameter"]]
        except KeyError as error:
            raise ValueError(scene.secrets["literal"]) from error

    said = io.StringIO()
    handlers = [logging.StreamHandler(said), logging.StreamHandler(said)]
    handlers[0].setFormatter(TextFormatter())
    handlers[1].setFormatter(JsonFormatter())
    with running_collector() as collector, monkeypatch.context() as patched, _listening(handlers):
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patched.setenv("NO_PROXY", "127.0.0.1")
        with gateway_in_thread(
            scene.settings["database_url"],
            {name: value for name, value in scene.settings.items() if name != "database_url"}
            | {"listen": scene.settings["listen"] | {"port": 0}},
        ) as gateway:
            heard = visit(gateway, scene)
            heard.aloud["repr"] = "\n".join(_held())
            patched.setattr(carrier, "execute", fails)
            bugs = visit(gateway, scene)
    heard.aloud["log"] = said.getvalue()
    heard.aloud["settings"] = f"{gateway.settings!r}{gateway.settings}{shown(gateway.settings)}"
    assert "bug\nTraceback" in heard.aloud["log"]
    assert heard.sings(scene.secrets) == []
    assert bugs.sings(scene.secrets) == []


@contextmanager
def _listening(handlers: list[logging.Handler]) -> Iterator[None]:
    """What is logged in the gateway's own threads, at every level that there is."""
    for handler in handlers:
        handler.addFilter(lambda record: record.threadName != "MainThread")
    root = logging.getLogger()
    level = root.level
    root.setLevel(1)
    root.handlers += handlers
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)


def _held() -> Iterator[str]:
    """`repr` of every object of the gateway's own classes."""
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith(("sqlhttp_gateway", "sqlhttp.")) and (
            is_dataclass(kind) or issubclass(kind, tuple | BaseModel | BaseException)
        ):
            yield f"{kind.__qualname__}: {each!r}"


def test_a_secret_that_sings_is_heard(scene: Scene) -> None:
    """The search itself: whole, percent-encoded, in base64; and a caller's own value in their own answer is not one."""
    secrets = scene.secrets
    for form in (
        secrets["password"],
        quote(f"a/{secrets['password']}@"),
        base64.b64encode(secrets["password"].encode()).decode(),
    ):
        assert Heard(aloud={"log": f"… {form} …"}).sings(secrets) == ["password in log"]
    assert Heard(answers=[secrets["parameter"]]).sings(secrets) == []
    assert Heard(aloud={"log": secrets["parameter"]}).sings(secrets) == ["parameter in log"]
