"""From a head it is known once and for all whether its requests are plain, and what they ask of the cache."""

from sqlhttp_gateway.model import Options
from sqlhttp_gateway.sql.asker import Asker

HEAD = {b"neon-connection-string": b"postgres://a@b/c", b"neon-raw-text-output": b"true"}


def test_head_with_raw_text_is_plain_and_nothing_is_known_of_its_sender() -> None:
    asker = Asker(HEAD | {b"host": b"db.example"}, Options(raw_text=True))
    assert asker.is_plain
    assert not asker.asks_cache
    assert (asker.connection_string, asker.host) == (b"postgres://a@b/c", b"db.example")
    assert asker.caller is asker.seeker is asker.tally is None


def test_head_that_wants_typed_values_may_only_ask_the_cache() -> None:
    assert not Asker({b"neon-connection-string": b"postgres://a@b/c"}, Options()).is_plain


def test_head_with_a_wish_for_the_cache_has_it_for_all_its_requests() -> None:
    asker = Asker(HEAD | {b"cache-control": b"max-age=5"}, Options(raw_text=True))
    assert asker.asks_cache
    assert not asker.is_plain
