"""What differs between two readings of the settings, and what of that needs a restart."""

from typing import Any

import pytest

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.reload import LIVE, Changes, changes, in_effect, is_live
from sqlhttp_gateway.settings import Settings, load_settings

URL = "postgres://ada:secret@db/app"


def settings(**sections: Any) -> Settings:
    return load_settings(**{"database_url": URL, **sections})


def test_nothing_differs_in_the_same_settings() -> None:
    assert changes(settings(), settings()) == Changes((), ())


def test_each_setting_that_differs_is_named_in_their_order() -> None:
    old = settings(pool={"max_size": 10}, listen={"port": 4444})
    new = settings(pool={"max_size": 20, "min_size": 2}, listen={"port": 5555}, statement={"timeout": 5})
    assert changes(old, new) == Changes(("pool.max_size", "pool.min_size", "statement.timeout"), ("listen.port",))


def test_targets_and_keys_are_named_one_by_one_whether_added_changed_or_removed() -> None:
    key = {"hash": "sha256:" + 64 * "0", "database": "app", "role": "app"}
    old = settings(targets={"a": {"url": URL}, "b": {"url": URL}}, keys={"k1": key, "k2": key})
    new = settings(targets={"b": {"url": f"{URL}2"}, "c": {"url": URL}}, keys={"k1": key, "k2": key | {"role": "x"}})
    assert changes(old, new).live == ("targets.a", "targets.b", "targets.c", "keys.k2")


def test_a_changed_secret_is_seen_and_not_shown() -> None:
    found = changes(settings(), settings(database_url="postgres://ada:other@db/app"))
    assert found == Changes(("database_url",), ())
    assert "other" not in repr(found)


def test_what_needs_a_restart_stays_as_it_was_and_the_rest_is_new() -> None:
    old = settings(pool={"max_size": 10}, listen={"port": 4444, "workers": 1}, auth={"keys_table": False})
    new = settings(
        pool={"max_size": 20},
        listen={"port": 5555, "workers": 2, "cleartext_password": True},
        auth={"keys_table": True, "proof_lifetime": 5},
    )
    effective = in_effect(old, new)
    assert (effective.listen.port, effective.listen.workers, effective.auth.keys_table) == (4444, 1, False)
    assert (effective.pool.max_size, effective.auth.proof_lifetime) == (20, 5)
    assert effective.listen.cleartext_password
    assert changes(effective, new).live == ()  # and the next time it is said again
    assert changes(effective, new).restart == ("listen.port", "listen.workers", "auth.keys_table")


def test_bounds_that_are_too_low_for_the_workers_that_stay_are_refused() -> None:
    old = settings(listen={"workers": 4})
    for bound in ("max_size", "max_total"):
        with pytest.raises(ConfigurationError, match=rf"pool.{bound} \(2\) must be at least listen.workers \(4\)"):
            in_effect(old, settings(listen={"workers": 2}, pool={bound: 2}))


def test_every_name_that_takes_effect_at_once_is_a_setting() -> None:
    for name in LIVE:
        section, _, leaf = name.partition(".")
        field = Settings.model_fields[section]
        if leaf:
            assert leaf in field.annotation.model_fields  # type: ignore[union-attr]
    assert not is_live("listen.host")


def test_cache_of_another_size_is_one_at_once_and_none_at_all_needs_a_restart() -> None:
    old = settings(cache={"max_bytes": 1000})
    assert changes(old, settings(cache={"max_bytes": 2000})) == Changes(("cache.max_bytes",), ())
    assert changes(old, settings(cache={"max_bytes": 0})) == Changes((), ("cache.max_bytes",))
    assert changes(old, settings(cache={"max_bytes": 1000, "listen": False})).restart == ("cache.listen",)
