import tomllib
from pathlib import Path

import pytest

from sqlhttp_gateway.auth.tenants import Tenants, tenants_from_settings
from sqlhttp_gateway.check.pgbouncer_ini import Translation, as_toml, translate
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings

EXAMPLE = """\
;; what a shop runs
%include /etc/pgbouncer/more.ini
[databases]
shop = host=db1.internal port=5433 user=shop password='it''s secret' pool_size=30
reports = host=db1.internal port=5433 dbname=reporting
archive = host=db2.internal connect_query='SELECT 1' timezone=UTC
* = host=db1.internal port=5433
[users]
batch = pool_mode=session max_user_connections=5 reserve_pool_size=1
[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir = /run/pgbouncer
admin_users = alice, bob
client_tls_sslmode = allow
client_tls_cert_file = /etc/tls.crt
client_tls_key_file = /etc/tls.key
client_idle_timeout = 60
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
default_pool_size = 25
min_pool_size = 5
max_client_conn = 2000
max_db_connections = 60
query_wait_timeout = 10.5
server_idle_timeout = 0
server_tls_sslmode = require
server_reset_query = DISCARD ALL
unheard_of = 1
"""


def notes(translation: Translation, name: str) -> list[str]:
    return [note.text for note in translation.notes if note.name == name]


def general(line: str) -> Translation:
    return translate(f"[databases]\nshop = host=db\n[pgbouncer]\n{line}\n")


def test_pools_timeouts_and_address_become_settings() -> None:
    settings = translate(EXAMPLE).settings
    assert {name: value for name, value in settings.items() if not name.endswith("url")} == {
        "listen.host": "0.0.0.0",
        "listen.postgres": 6432,
        "listen.postgres_socket_directory": "/run/pgbouncer",
        "listen.tls_certificate": "/etc/tls.crt",
        "listen.tls_key": "/etc/tls.key",
        "admin.roles": ("alice", "bob"),
        "tunnel.client_idle_timeout": 60,
        "tunnel.pool_mode": "transaction",
        "tunnel.role_pool_mode": {"batch": "session"},
        "limits.roles": {"batch": {"max_concurrent": 5}},
        "tenants.reports.databases": ("reports",),
        "tenants.reports.database": "reporting",
        "tenants.archive.databases": ("archive",),
        "tenants.archive.target": "archive",
        "pool.max_size": 25,
        "pool.min_size": 5,
        "listen.max_connections": 2000,
        "pool.max_waiting": 2000,
        "pool.max_total": 60,
        "pool.wait_timeout": 10.5,
    }


def test_each_server_becomes_a_target_and_the_first_is_the_default() -> None:
    settings = translate(EXAMPLE).settings
    assert settings["database_url"] == (
        "postgres://shop:PASSWORD@db1.internal:5433/shop?sslmode=require&connection_limit=30"
    )
    assert settings["targets.archive.url"] == "postgres://ROLE:PASSWORD@db2.internal:5432/archive?sslmode=require"


def test_settings_file_is_accepted_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sqlhttp.toml").write_text(as_toml(translate(EXAMPLE)))
    settings = load_settings(file=tmp_path / "sqlhttp.toml")
    assert (settings.pool.max_size, settings.pool.wait_timeout, settings.listen.host) == (25, 10.5, "0.0.0.0")
    assert "archive" in settings.targets
    assert settings.tunnel.role_pool_mode == {"batch": "session"}
    assert settings.limits.roles["batch"].max_concurrent == 5
    assert (settings.tenants["reports"].databases, settings.tenants["reports"].database) == (("reports",), "reporting")
    assert (settings.listen.postgres, settings.admin.roles) == (6432, ("alice", "bob"))


def test_pool_modes_of_databases_and_servers_of_other_names_are_kept() -> None:
    settings = translate("[databases]\na = host=one\nb = host=two dbname=c pool_mode=session\n").settings
    assert settings["tunnel.database_pool_mode"] == {"c": "session"}
    assert settings["tenants.b.target"] == "b"


def test_certificate_that_pgbouncer_does_not_use_is_not_used_here() -> None:
    translation = general("client_tls_cert_file = tls.crt")
    assert "listen.tls_certificate" not in translation.settings
    assert notes(translation, "client_tls_cert_file")


def test_socket_without_a_port_has_pgbouncer_s_own_number() -> None:
    assert general("unix_socket_dir = /tmp").settings["listen.postgres"] == 6432


def test_passwords_are_not_copied() -> None:
    text = as_toml(translate(EXAMPLE))
    assert "secret" not in text
    assert "no password was copied" in text


def test_everything_without_a_counterpart_is_named() -> None:
    translation = translate(EXAMPLE)
    assert notes(translation, "%include") == ["/etc/pgbouncer/more.ini was not read: translate it, too"]
    assert notes(translation, "[databases] shop") == [
        "pool_size=30 is connection_limit of its server here",
        "forces the role shop; here every program logs in as itself",
    ]
    assert len(notes(translation, "[databases] archive")) == 2
    assert notes(translation, "[users] batch") == [
        "max_user_connections=5 bounds what the role runs at once (limits.roles)",
        "reserve_pool_size=1 has no counterpart for a single role",
    ]
    assert notes(translation, "unheard_of") == ["not a setting of PgBouncer that is known"]
    assert "scrubs" in notes(translation, "server_reset_query")[0]
    assert "needs one" in notes(translation, "server_idle_timeout")[0]


def test_every_line_of_the_file_shows_up_as_a_setting_or_as_a_note() -> None:
    translation = translate(EXAMPLE)
    told = {note.name for note in translation.notes}
    silent = {"default_pool_size", "min_pool_size", "listen_addr", "server_tls_sslmode"}  # they mean the same here
    silent |= {"unix_socket_dir", "admin_users", "client_tls_cert_file", "client_tls_key_file", "client_idle_timeout"}
    for line in EXAMPLE.split("[pgbouncer]")[1].strip().splitlines():
        name = line.split(" = ")[0]
        assert name in told | silent, name


def test_defaults_that_differ_are_mentioned_when_they_were_left_to_pgbouncer() -> None:
    assert "which is 120 in PgBouncer" in notes(general(""), "query_wait_timeout")[0]
    assert not [text for text in notes(general("query_wait_timeout = 9"), "query_wait_timeout") if "default" in text]


@pytest.mark.parametrize(
    ("mode", "word"), [("session", "is one transaction always"), ("statement", "may have several statements")]
)
def test_pool_mode_is_explained(mode: str, word: str) -> None:
    assert word in notes(general(f"pool_mode = {mode}"), "pool_mode")[0]


@pytest.mark.parametrize(
    ("kind", "word"),
    [("md5", "Postgres's own rules"), ("trust", "needs its role's password"), ("hba", "no counterpart")],
)
def test_kind_of_authentication_is_explained(kind: str, word: str) -> None:
    assert word in notes(general(f"auth_type = {kind}"), "auth_type")[0]


def test_fallback_database_alone_leads_to_the_maintenance_database() -> None:
    settings = translate("[databases]\n* = host=db user=pooler\n[pgbouncer]\n").settings
    assert settings["database_url"] == "postgres://pooler:PASSWORD@db:5432/postgres"


def test_folder_of_a_socket_stays_one() -> None:
    translation = translate("[databases]\nlocal = host=/run/postgresql port=5433 pool_size=4\n")
    assert translation.settings["database_url"] == (
        "postgres://ROLE:PASSWORD@/local?host=/run/postgresql&port=5433&connection_limit=4"
    )
    assert not any("localhost" in note.text for note in translation.notes)


def test_sockets_without_a_folder_and_several_hosts_are_mentioned() -> None:
    translation = translate("[databases]\nlocal =\nmany = host=a,b\n")
    assert translation.settings["database_url"] == "postgres://ROLE:PASSWORD@localhost:5432/local"
    assert "Unix socket" in notes(translation, "[databases] local")[0]
    assert translation.settings["targets.many.url"] == "postgres://ROLE:PASSWORD@a:5432/many"
    assert "only the first is taken" in notes(translation, "[databases] many")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no|no database"),
        ("[databases]\nthis is no setting", "line 2"),
        ("[databases]\nshop = host=db = x '", "a list of name=value"),
        ("[databases]\nshop = host=db\n[pgbouncer]\ndefault_pool_size = many", "default_pool_size = many"),
    ],
)
def test_what_is_no_pgbouncer_ini_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        translate(text)


def test_text_is_valid_toml_whatever_stands_in_a_name() -> None:
    translation = translate('[databases]\n"odd \\name" = host=db\nother = host=db2 dbname="x"\n')
    settings = tomllib.loads(as_toml(translation))
    assert settings["database_url"].endswith("@db:5432/odd%20%5Cname")
    assert settings["tenants"]["other"]["database"] == '"x"'


def test_names_that_differ_only_in_what_a_setting_cannot_hold_stay_two() -> None:
    lines = ["a.b = host=h1 dbname=x", "a_b = host=h2 dbname=y"]
    lines += [
        f"{name} = host={host}" for name, host in (("c.d", "h3"), ("c-d", "h4"), ("c:d", "h5"), ("default", "h6"))
    ]
    found = translate("\n".join(["[databases]", *lines]))
    assert found.settings["tenants.a_b.databases"] == ("a.b",)
    assert found.settings["tenants.a_b_2.databases"] == ("a_b",)
    assert found.settings["tenants.a_b_2.target"] == "a_b"
    assert found.settings["targets.c_d.url"] == "postgres://ROLE:PASSWORD@h3:5432/c.d"
    assert found.settings["targets.default_2.url"] == "postgres://ROLE:PASSWORD@h6:5432/default"
    assert found.settings["targets.c_d_2.url"] == "postgres://ROLE:PASSWORD@h5:5432/c%3Ad"


async def test_database_of_another_server_is_found_by_its_name_alone_as_there(tmp_path: Path) -> None:
    """Programs of PgBouncer's have one host for all databases: the pooler's."""
    lines = ["shop = host=db1", "archive = host=db2", "old = host=db2 dbname=shop", "* = host=db3 port=5433"]
    file = tmp_path / "sqlhttp.toml"
    file.write_text(as_toml(translate("\n".join(["[databases]", *lines]))))
    settings = load_settings(file=file)
    tenants, targets = Tenants(tenants_from_settings(settings.tenants)), Targets(settings)
    found = {}
    for name in ("shop", "archive", "old", "more"):
        dsn, upstream, _ = await tenants.resolve(Dsn("pooler", 6432, name, "app", b"secret"), "pooler:6432", targets)
        found[name] = (upstream.target.host, dsn.database)
    assert found == {
        "shop": ("db1", "shop"),
        "archive": ("db2", "archive"),
        "old": ("db2", "shop"),
        "more": ("db3", "more"),
    }


@pytest.mark.parametrize("folder", ["", "@abstract"])
def test_socket_without_a_folder_is_none(folder: str) -> None:
    found = general(f"unix_socket_dir = {folder}")
    assert "listen.postgres_socket_directory" not in found.settings
    assert "socket" in notes(found, "unix_socket_dir")[0]


def test_certificate_towards_the_server_goes_into_the_connection_string() -> None:
    own = "server_tls_cert_file = /c.pem\nserver_tls_key_file = /k.pem"
    found = general(f"server_tls_sslmode = verify-full\n{own}").settings["database_url"]
    assert str(found).endswith("?sslmode=verify-full&sslcert=/c.pem&sslkey=/k.pem")
    assert "sslmode=require" in str(general(own).settings["database_url"]), "prefer is PgBouncer's, and not possible"


def test_no_address_is_no_host() -> None:
    found = general("listen_addr =")
    assert "listen.host" not in found.settings
    assert "127.0.0.1" in notes(found, "listen_addr")[0]


def test_pool_keeps_no_more_than_it_may_hold_which_pgbouncer_sees_to_by_itself() -> None:
    assert general("min_pool_size = 30").settings["pool.min_size"] == 10
    assert general("min_pool_size = 30\ndefault_pool_size = 20").settings["pool.min_size"] == 20
    assert general("min_pool_size = 5").settings["pool.min_size"] == 5


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "5s", ""])
@pytest.mark.parametrize("name", ["max_db_connections", "query_timeout"])
def test_what_is_no_number_is_refused_by_its_name(name: str, number: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} = {number}: expected a number"):
        general(f"{name} = {number}")


def test_words_are_read_in_either_case_as_there() -> None:
    assert general("pool_mode = Session").settings["tunnel.pool_mode"] == "session"


def test_limits_of_users_are_those_of_roles_where_there_are_such() -> None:
    users = "[users]\nu = query_timeout=5 max_user_connections=3 query_wait_timeout=2"
    found = translate(f"[databases]\na = host=b\n{users}")
    assert found.settings["limits.roles"] == {"u": {"statement_timeout": 5, "max_concurrent": 3}}
    assert any("query_wait_timeout=2 has no counterpart" in text for text in notes(found, "[users] u"))


def test_parameter_of_a_database_that_nobody_knows_is_named() -> None:
    found = translate("[databases]\na = host=b made_up=1 server_lifetime=3")
    assert [each.split()[0] for each in notes(found, "[databases] a")] == ["made_up", "server_lifetime"]
