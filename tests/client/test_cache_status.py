import pytest

from sqlhttp._cache_status import CacheStatus, status_of


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"cache-status": "sqlhttp; hit; ttl=59", "age": "1"}, CacheStatus(hit=True, age=1, ttl=59)),
        (
            {"cache-status": "sqlhttp; hit; ttl=-5; detail=refreshing", "age": "65"},
            CacheStatus(hit=True, stale=True, age=65, ttl=-5),
        ),
        (
            {"cache-status": "sqlhttp; fwd=uri-miss; ttl=60; stored; collapsed"},
            CacheStatus(hit=False, stored=True, collapsed=True, ttl=60),
        ),
        ({"cache-status": 'sqlhttp; fwd=bypass; detail="time:now"'}, CacheStatus(hit=False, detail="time:now")),
        ({}, None),
    ],
)
def test_status_is_read_from_the_headers(headers: dict[str, str], status: CacheStatus | None) -> None:
    assert status_of(headers) == status
