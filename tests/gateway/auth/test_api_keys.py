"""A key is valid when its hash is known, until it expires or is revoked; nobody can tell which other keys there are."""

import contextlib
import hmac

import pytest

from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord, hash_of, new_key, records_from_settings
from sqlhttp_gateway.auth.credentials import ApiKey, key_from_text
from sqlhttp_gateway.errors import InvalidKey, KeysUnreadable, TargetUnavailable
from sqlhttp_gateway.settings import KeySettings

KEY = new_key()
RECORD = KeyRecord(KEY.id, hash_of(KEY), "default", "main", "app")


class Table:
    """A table whose rows, and whether it can be read, a test changes."""

    def __init__(self, *records: KeyRecord) -> None:
        self.records = list(records)
        self.is_down = False
        self.reads = 0
        self.now = 1000.0

    async def __call__(self) -> list[KeyRecord]:
        self.reads += 1
        if self.is_down:
            raise TargetUnavailable("target default: cannot connect to Postgres")
        return self.records


def test_new_key_has_the_form_by_which_it_is_recognized() -> None:
    assert key_from_text(new_key().text) is not None
    assert new_key() != new_key()


async def test_right_key_is_found() -> None:
    assert await ApiKeys({KEY.id: RECORD}).find(KEY) is RECORD


@pytest.mark.parametrize("wrong", [new_key(), ApiKey(KEY.id, KEY.text[:-1] + "~")])
async def test_unknown_id_and_wrong_secret_get_the_same_words(wrong: ApiKey) -> None:
    with pytest.raises(InvalidKey, match=r"^invalid API key$"):
        await ApiKeys({KEY.id: RECORD}).find(wrong)


async def test_hash_that_is_none_lets_nobody_in() -> None:
    """A table may hold anything."""
    with pytest.raises(InvalidKey):
        await ApiKeys({KEY.id: KeyRecord(KEY.id, "sha256:ü", "default", "main", "app")}).find(KEY)


async def test_unknown_id_costs_a_comparison_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    for key in (KEY, new_key()):
        with contextlib.suppress(InvalidKey):
            await ApiKeys({KEY.id: RECORD}).find(key)
    assert [len(one) == len(other) for one, other in compared] == [True, True]


async def test_expired_key_is_told_so_only_with_the_right_secret() -> None:
    expired = KeyRecord(KEY.id, hash_of(KEY), "default", "main", "app", expires_at=1000.0)
    keys = ApiKeys({KEY.id: expired}, clock=lambda: 1000.0)
    with pytest.raises(InvalidKey, match="has expired"):
        await keys.find(KEY)
    with pytest.raises(InvalidKey, match=r"^invalid API key$"):
        await keys.find(ApiKey(KEY.id, KEY.text[:-1] + "~"))
    assert await ApiKeys({KEY.id: expired}, clock=lambda: 999.9).find(KEY) is expired


async def test_table_is_read_when_the_first_key_comes_and_not_for_every_one() -> None:
    table = Table(RECORD)
    keys = ApiKeys({}, table)
    await keys.find(KEY)
    await keys.find(KEY)
    assert table.reads == 1


async def test_revoked_key_is_gone_after_the_next_look_and_those_who_remember_are_told() -> None:
    table, told = Table(RECORD), []
    keys = ApiKeys({}, table, on_change=lambda: told.append(1))
    await keys.find(KEY)
    table.records = [KeyRecord("other", "sha256:", "default", "main", "app")]
    await keys.read()
    assert told == [1]
    with pytest.raises(InvalidKey):
        await keys.find(KEY)


async def test_new_key_in_the_table_makes_nobody_forget() -> None:
    table, told = Table(RECORD), []
    keys = ApiKeys({}, table, on_change=lambda: told.append(1))
    await keys.read()
    table.records = [RECORD, KeyRecord("other", "sha256:", "default", "main", "app")]
    await keys.read()
    assert told == []


async def test_keys_outlive_a_short_outage_of_the_table_and_not_a_long_one() -> None:
    table = Table(RECORD)
    keys = ApiKeys({}, table, refresh=10.0, clock=lambda: table.now)
    await keys.find(KEY)
    table.is_down = True
    table.now += 60.0
    with pytest.raises(TargetUnavailable):
        await keys.read()
    assert await keys.find(KEY) is RECORD
    table.now += 0.1
    with pytest.raises(KeysUnreadable):
        await keys.find(KEY)
    table.is_down = False
    await keys.read()
    assert await keys.find(KEY) is RECORD


async def test_key_of_the_settings_does_not_wait_for_the_table() -> None:
    table = Table()
    table.is_down = True
    keys = ApiKeys({KEY.id: RECORD}, table)
    assert await keys.find(KEY) is RECORD
    with pytest.raises(KeysUnreadable):
        await keys.find(new_key())


def test_settings_become_records() -> None:
    [record] = records_from_settings(
        {
            KEY.id: KeySettings.model_validate(
                {
                    "hash": hash_of(KEY),
                    "database": "main",
                    "role": "app",
                    "expires_at": "2030-01-01T00:00:00Z",
                    "read_only": True,
                    "statements": ["ab" * 32],
                }
            )
        }
    ).values()
    assert record.expires_at == 1_893_456_000.0
    assert record.statements == frozenset({b"\xab" * 32})
    assert record.read_only


def test_hash_does_not_show_the_key() -> None:
    assert KEY.text.rpartition("_")[2] not in hash_of(KEY)
    assert len(hash_of(KEY)) == len("sha256:") + 64
