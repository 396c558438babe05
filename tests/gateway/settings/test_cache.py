"""What the cache keeps, and what is asked of it by default."""

import pytest

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused


@pytest.mark.parametrize("section", ["key_defaults", "role_defaults", "database_defaults"])
def test_a_default_that_cannot_be_read_is_refused_by_its_place(section: str) -> None:
    assert f"{section}.app: " in refused(cache={section: {"app": "ttl=for-ever"}})
    wishes = getattr(load_settings(cache={section: {"app": "ttl=60 swr=30 tags=a,b"}}).cache, section)
    assert wishes == {"app": "ttl=60 swr=30 tags=a,b"}


def test_without_room_there_is_no_cache_and_the_shared_ones_address_is_a_secret() -> None:
    cache = load_settings(cache={"max_bytes": 0, "shared_url": "redis://:hunter2@cache/0"}).cache
    assert cache.max_bytes == 0
    assert "hunter2" not in repr(cache)
