import gzip
import re
from pathlib import Path

import pytest

from sqlhttp_gateway.check.pgbouncer_ini import translate
from sqlhttp_gateway.check.pgbouncer_names import (
    CERTIFICATE,
    DEFAULTS,
    IN_CONNECTION_STRING,
    NUMBERS,
    WITHOUT,
    WORDS,
)
from tests.support.documents import leaves

MANUAL = Path("/usr/share/man/man5/pgbouncer.5.gz")


def test_settings_of_ours_that_are_named_exist() -> None:
    ours = {name for name, _ in leaves()}
    assert {*NUMBERS.values(), *WORDS.values(), *CERTIFICATE.values()} <= ours
    sections = {name.partition(".")[0] for name in ours}
    for reason in WITHOUT.values():
        for name in re.findall(r"\b[a-z]+\.[a-z_]+\b", reason):
            assert name in ours or name.partition(".")[0] not in sections, name


def test_each_name_has_one_fate() -> None:
    assert not {*NUMBERS, *WORDS, *CERTIFICATE} & set(WITHOUT)
    assert not set(IN_CONNECTION_STRING) & set(WITHOUT)
    assert set(DEFAULTS) <= set(NUMBERS)


@pytest.mark.parametrize("name", [name for name, reason in WITHOUT.items() if not reason])
def test_name_whose_reason_is_said_elsewhere_has_one(name: str) -> None:
    translation = translate(f"[databases]\nshop = host=db\n[pgbouncer]\n{name} = 5\n")
    said = [note.text for note in translation.notes if note.name == name]
    assert "not a setting" not in str(said)
    assert said or translation.settings.keys() & {"listen.host", "admin.roles"}


def test_settings_that_came_after_the_installed_manual_are_known() -> None:
    """1.25 and 1.26."""
    newer = {"transaction_timeout", "query_wait_notify", "client_tls13_ciphers", "server_tls13_ciphers"}
    newer |= {"auth_ldap_options", "auth_pam_confdir", "scram_iterations", "login_notify_message", "pool_idle_timeout"}
    assert newer <= {*NUMBERS, *WITHOUT}


@pytest.mark.skipif(not MANUAL.exists(), reason="PgBouncer's manual is not installed")
def test_every_setting_of_the_manual_is_known() -> None:
    text = gzip.decompress(MANUAL.read_bytes()).decode()
    general = text.split("CONNECTION STRING")[0].split(".SH SECTION \\[DATABASES\\]")[0]
    names = set(re.findall(r"^\.SS ([a-z_]+)$", general.split("\\[databases\\]")[0], re.MULTILINE))
    of_databases = {"dbname", "host", "port", "password", "pool_size", "reserve_pool", "connect_query"}
    of_databases |= {"client_encoding", "datestyle", "timezone"}
    assert len(names) > 80
    assert names - of_databases <= {*NUMBERS, *WORDS, *CERTIFICATE, *WITHOUT, *IN_CONNECTION_STRING}
