"""Which server a connection string means, and what of a configured one is honoured or refused."""

import os
import pwd
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConfigurationError, InvalidConnectionString
from sqlhttp_gateway.model import Dsn, Target
from sqlhttp_gateway.neon.hosts import Wanted
from sqlhttp_gateway.pools import targets as targets_module
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import load_settings

README = Path(__file__).parents[3] / "deploy" / "README.md"
CERTIFICATE = Path(__file__).parents[2] / "support" / "certificate.pem"
URL = "postgres://admin:secret@db.internal:5433/main"


def targets(url: str = URL, **settings: Any) -> Targets:
    return Targets(load_settings(database_url=url, **settings))


def default(parameters: str = "", **settings: Any) -> Upstream:
    return targets(URL + parameters, **settings).default


def refused(parameters: str = "", **settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        default(parameters, **settings)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def dsn(host: str, port: int | None = None) -> Dsn:
    return Dsn(host, port, "d", "r", b"p")


# ── the choice ───────────────────────────────────────────────────────────────────────────────────────────────────────

SEVERAL = {
    "aliases": ["Main.Example.com"],
    "targets": {
        "reports": {"url": "postgres://a:b@db2.internal/main", "aliases": ["reports.example.com", "other:7000"]},
        "same_host": {"url": "postgres://a:b@db.internal:6000/main"},
    },
}


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("db.internal", 5433, "default"),
        ("db.internal", None, "default"),
        ("db.internal", 6000, "same_host"),
        ("db.internal", 9999, "default"),
        ("main.example.COM", 5432, "default"),
        ("default", None, "default"),
        ("db2.internal", None, "reports"),
        ("DB2.internal", 5432, "reports"),
        ("reports", None, "reports"),
        ("Reports.example.com", 1, "reports"),
        ("other", 7000, "reports"),
        ("other", 7001, "default"),
        ("nobody.knows", 5432, "default"),
        ("127.0.0.1", 5432, "default"),
    ],
)
def test_host_and_port_choose_among_what_is_configured(host: str, port: int | None, name: str) -> None:
    assert targets(**SEVERAL).choose(dsn(host, port)).target.name == name


def test_host_never_becomes_an_address_of_its_own() -> None:
    chosen = targets(**SEVERAL).choose(dsn("169.254.169.254", 80))
    assert chosen.target == Target("default", "db.internal", 5433)


@pytest.mark.parametrize("more", [{}, SEVERAL])
def test_unknown_host_is_refused_where_that_is_set_and_not_repeated(more: dict[str, Any]) -> None:
    strict = targets(unknown_host="refuse", **more)
    assert strict.choose(dsn("db.internal", 5433)) is strict.default
    with pytest.raises(InvalidConnectionString) as caught:
        strict.choose(dsn("nobody.knows"))
    assert "nobody" not in caught.value.message
    assert strict.find(dsn("nobody.knows")) is None


def test_one_target_takes_every_host() -> None:
    assert targets().choose(dsn("whatever", 1)).target.name == "default"


def test_name_for_two_targets_is_refused() -> None:
    message = refused(targets={"reports": {"url": URL, "aliases": ["a.example"]}}, aliases=["A.example"])
    assert message == "targets default and reports both go by the name a.example"
    assert "both go by" in refused(targets={"reports": {"url": URL, "aliases": ["default"]}})


def test_the_default_targets_name_is_no_others() -> None:
    message = refused(targets={"default": {"url": URL}})
    assert message == "targets.default: so the target of database_url is called; take another name"


def test_two_targets_may_be_the_same_server() -> None:
    both = targets(targets={"again": {"url": f"{URL}?application_name=again", "aliases": ["again.example"]}})
    assert both.choose(dsn("db.internal", 5433)).target.name == "default"
    assert both.choose(dsn("again.example")).server_settings["application_name"] == "again"


def test_no_connection_string_at_all_is_said_plainly() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL=postgres://"):
        Targets(load_settings())


# ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connection_string_alone_means_the_settings() -> None:
    upstream = default(pool={"max_size": 7}, statement={"timeout": 2.5})
    assert upstream.target == Target("default", "db.internal", 5433)
    assert (upstream.admin.role, upstream.admin.database, upstream.admin.password) == ("admin", "main", b"secret")
    assert upstream.server_settings == {"application_name": "sqlhttp", "statement_timeout": "2500"}
    assert upstream.ssl == "prefer"
    assert upstream.pool.max_size == 7
    assert not upstream.is_pooler


def test_port_is_postgres_own_where_none_is_given() -> None:
    assert targets("postgres://a:b@h/d").default.target.port == 5432


def test_parameters_are_honoured() -> None:
    upstream = default(
        "?application_name=shop&options=-c%20geqo%3Doff&search_path=app,public&connection_limit=3&pool_timeout=9"
        "&connect_timeout=4&sslmode=disable&channel_binding=prefer&target_session_attrs=any",
        pool={"min_size": 5},
    )
    assert upstream.server_settings == {
        "application_name": "shop",
        "options": "-c geqo=off",
        "search_path": "app,public",
        "statement_timeout": "60000",
    }
    assert (upstream.pool.max_size, upstream.pool.min_size) == (3, 3)
    assert (upstream.pool.wait_timeout, upstream.pool.connect_timeout) == (9.0, 4.0)
    assert upstream.ssl is False


def test_pooler_gets_no_named_statements_and_no_start_up_parameters() -> None:
    upstream = default("?pgbouncer=true", pool={"statement_cache_size": 100})
    assert upstream.is_pooler
    assert upstream.pool.statement_cache_size == 0
    assert upstream.server_settings == {"application_name": "sqlhttp"}
    assert not default("?pgbouncer=false").is_pooler


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("?sslmode=no", "sslmode"),
        ("?sslcert=x", "sslcert"),
        ("?sslcert=/nowhere/at/all.pem&sslmode=require", "sslcert"),
        (f"?sslcert={CERTIFICATE}&sslmode=prefer", "sslcert"),
        ("?sslcert=/dev/null&sslmode=verify-full", "sslcert"),
        (f"?sslkey={CERTIFICATE}&sslmode=require", "sslkey"),
        ("?sslrootcert=/nowhere/at/all.pem&sslmode=verify-full", "sslrootcert"),
        ("?sslrootcert=/dev/null&sslmode=verify-full", "sslrootcert"),
        ("?channel_binding=require", "channel_binding"),
        ("?target_session_attrs=leader", "target_session_attrs"),
        ("?connection_limit=0", "connection_limit"),
        ("?connection_limit=many", "connection_limit"),
        ("?connection_limit=-1", "connection_limit"),
        ("?connection_limit=%C2%B2", "connection_limit"),
        (f"?connection_limit={'9' * 5000}", "connection_limit"),
        (f"?connect_timeout={'9' * 400}", "connect_timeout"),
        ("?pool_timeout=1000000000", "pool_timeout"),
        ("?pool_timeout=1.5", "pool_timeout"),
        ("?connect_timeout=", "connect_timeout"),
        ("?pgbouncer=yes", "pgbouncer"),
        ("?pgbouncer=true&search_path=x", "search_path"),
        ("?schema=x", "schema"),
        ("?host=/tmp", "host"),
        ("?a=1&a=2", "database_url"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(parameters: str, named: str) -> None:
    message = refused(parameters)
    assert message.startswith("database_url")
    assert named in message


def test_other_targets_are_named_in_what_is_refused() -> None:
    message = refused(targets={"reports": {"url": f"{URL}?nonsense=1"}})
    assert message.startswith("targets.reports.url: the parameter nonsense ")


def test_string_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        targets("mysql://admin:secret@h/d")
    assert str(caught.value) == "database_url: incorrect scheme"


def test_timeout_below_a_millisecond_is_not_none() -> None:
    assert default(statement={"timeout": 0.0001}).server_settings["statement_timeout"] == "1"
    assert "statement_timeout" not in default(statement={"timeout": 0}).server_settings


def test_bounds_are_shared_among_workers() -> None:
    upstream = default("?connection_limit=9", pool={"max_size": 20}, listen={"workers": 4})
    assert upstream.pool.max_size == 2
    assert default(pool={"max_size": 20}, listen={"workers": 4}).pool.max_size == 5
    assert "listen.workers" in refused("?connection_limit=3", listen={"workers": 4})


# ── Unix sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_socket_is_asked_without_tls_whatever_is_said_of_it() -> None:
    for said in ("", "&sslmode=require", "&sslmode=verify-full&sslrootcert=/nowhere/at/all.pem"):
        upstream = targets(f"postgres://admin:secret@/main?host=/run/postgresql{said}").default
        assert upstream.ssl is False
        assert upstream.target == Target("default", "/run/postgresql", 5432)
    with pytest.raises(ConfigurationError, match="sslmode"):
        targets("postgres://admin:secret@/main?host=/run/postgresql&sslmode=perhaps")


def test_path_that_is_too_long_for_a_socket_is_said_with_the_numbers() -> None:
    longest = "/" + "x" * (107 - len("//.s.PGSQL.5432"))
    assert targets(f"postgres://admin:secret@/main?host={longest}").default.target.host == longest
    with pytest.raises(ConfigurationError) as caught:
        targets(f"postgres://admin:secret@/main?host={longest}x")
    assert str(caught.value) == "database_url: the path of the Unix socket has 108 bytes; 107 are possible"


def test_role_of_a_socket_defaults_to_the_account_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = "postgres:///main?host=/run/postgresql"
    assert targets(nameless).default.admin.role == pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(ConfigurationError, match="missing username"):
        targets(nameless)


def test_socket_and_address_are_servers_of_one_target() -> None:
    upstream = targets("postgres://admin:secret@%2Frun%2Fpostgresql,db.internal:5433/main").default
    assert [each.target.place for each in upstream.servers] == ["/run/postgresql/.s.PGSQL.5432", "db.internal:5433"]


def test_parameters_that_the_readme_tells_of_are_known() -> None:
    section = README.read_text().partition("## The connection string of a server")[2].partition("\n## ")[0]
    names = re.findall(r"`([a-z_]+)(?:=true)?`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert len(names) == 18
    given = {"user": "a", "password": "b", "host": "h", "port": "1", "dbname": "d"}
    for name in names:
        query = "&".join(f"{each}={value}" for each, value in {name: "require", **given}.items())
        fault = ""
        try:
            targets(f"postgres://?{query}")
        except ConfigurationError as error:
            fault = str(error)
        assert "does not know it" not in fault, name


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_modes_that_verify_nothing_are_left_to_the_driver(mode: str) -> None:
    assert default(f"?sslmode={mode}").ssl == mode


@pytest.mark.parametrize(("mode", "checks_name"), [("verify-ca", False), ("verify-full", True), ("require", False)])
def test_root_certificate_is_who_is_believed(mode: str, checks_name: bool) -> None:
    context = default(f"?sslmode={mode}&sslrootcert={CERTIFICATE}").ssl
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname is checks_name
    assert context.cert_store_stats()["x509"] == 1


def test_certificate_of_ones_own_is_shown_and_says_nothing_of_the_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(targets_module, "_LIBPQ_ROOT", tmp_path / "root.crt")
    own = f"sslcert={CERTIFICATE}&sslkey={CERTIFICATE}"  # both are in one file
    for mode, verified in (("require", ssl.CERT_NONE), ("verify-ca", ssl.CERT_REQUIRED)):
        context = default(f"?sslmode={mode}&{own}").ssl
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode == verified
    assert default(f"?sslmode=disable&{own}").ssl is False


@pytest.mark.parametrize("parameters", [f"&sslrootcert={CERTIFICATE}", "&sslrootcert=system"])
def test_certificate_that_libpq_takes_is_not_refused_for_an_extension(
    parameters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own contexts are strict from 3.13 on; here they are so with any."""
    create = ssl.create_default_context

    def strict(**named: Any) -> ssl.SSLContext:
        context = create(**named)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    context = default(f"?sslmode=verify-full{parameters}").ssl
    assert isinstance(context, ssl.SSLContext)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("parameters", ["?sslmode=verify-full", "?sslmode=verify-full&sslrootcert=system"])
def test_without_a_root_certificate_the_systems_are_believed(
    parameters: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(targets_module, "_LIBPQ_ROOT", tmp_path / "root.crt")
    context = default(parameters).ssl
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_root_certificate_of_libpq_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets_module, "_LIBPQ_ROOT", tmp_path / "root.crt")
    (tmp_path / "root.crt").write_bytes(CERTIFICATE.read_bytes())
    context = default("?sslmode=verify-ca").ssl
    assert isinstance(context, ssl.SSLContext)
    assert context.cert_store_stats()["x509"] == 1


# ── several servers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_target_of_several_servers_is_known_by_its_first() -> None:
    several = targets("postgres://a:b@one,two:7000/main")
    assert [group.name for group in several.groups] == ["default"]
    assert [each.target for each in several.default.servers] == [
        Target("default", "one", 5432),
        Target("default-2", "two", 7000),
    ]
    assert several.choose(dsn("two", 7000)) is several.default
    assert several.default.group is several.groups[0]


def test_replicas_may_be_servers_with_roles_of_their_own() -> None:
    several = targets(replicas=["postgres://reader:other@replica/main"])
    assert [(each.target.name, each.admin.role) for each in several.default.servers] == [
        ("default", "admin"),
        ("default-2", "reader"),
    ]


def test_single_server_is_no_group_and_is_never_looked_at() -> None:
    single = targets(targets={"reports": {"url": "postgres://a:b@r1,r2/main"}})
    assert single.default.group is None
    assert single.default.servers == [single.default]
    assert [group.name for group in single.groups] == ["reports"]


def test_single_server_that_must_be_of_a_kind_is_looked_at() -> None:
    [group] = targets(URL + "?target_session_attrs=standby").groups
    assert group.wanted is Wanted.STANDBY


def test_name_of_a_server_is_nobody_elses() -> None:
    with pytest.raises(ConfigurationError, match="default-2"):
        targets("postgres://a:b@one,two/main", targets={"default-2": {"url": URL}})


def test_fault_in_a_list_of_hosts_is_told_without_the_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        targets("postgres://a:secret@one,,two/main")
    assert "database_url" in str(caught.value)
    assert "secret" not in str(caught.value)
