"""What stands before anything runs: who hears what happens, who may come in, and which of the workers tells."""

import pytest

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Event, Evicted, unobserved
from sqlhttp_gateway.observe.reporter import Place
from sqlhttp_gateway.observe.slots import Slots
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.standing import Standing

AWAY = "postgres://ada:hunter2@127.0.0.1:1/app"


def test_only_one_worker_tells_what_all_of_them_do() -> None:
    settings, slots = load_settings(database_url=AWAY), Slots(2)
    alone, first, second = (Standing(settings, place=place) for place in (None, Place(slots, 0), Place(slots, 1)))
    assert [alone.is_first, first.is_first, second.is_first] == [True, True, False]
    assert first.observe_once is first.observe
    assert second.observe_once is unobserved


@pytest.mark.parametrize("requests", ["errors", "all"])
def test_each_request_is_told_to_the_log_only_if_it_wants_all(requests: str) -> None:
    settings = load_settings(database_url=AWAY, log={"requests": requests})
    assert Standing(settings).telling(settings).each == (requests == "all")
    assert Standing(settings, observe=unobserved).telling(settings).each


def test_requests_are_told_by_the_settings_that_are_given_and_not_by_the_first() -> None:
    standing = Standing(load_settings(database_url=AWAY))
    new = load_settings(database_url=AWAY, trace={"server_timing": False, "comment": True}, log={"slow_statement": 0.5})
    told = standing.telling(new)
    assert (told.server_timing, told.trace_comment, told.slow_statement, told.audit) == (False, True, 0.5, False)


def test_what_happens_is_counted_whoever_else_hears_it() -> None:
    events: list[Event] = []
    standing = Standing(load_settings(database_url=AWAY), observe=events.append)
    standing.observe(Evicted())
    assert events == [Evicted()]
    assert standing.metrics.counts().cache_evictions == 1


def test_other_settings_reach_all_that_stands() -> None:
    standing = Standing(load_settings(database_url=AWAY))
    assert standing.peers.are_usual
    standing.owners.reconfigure(load_settings(database_url=AWAY, listen={"allow_from": ["192.0.2.0/24"]}))
    assert not standing.peers.are_usual


def test_roles_that_may_end_all_cached_answers_are_those_of_each_target() -> None:
    standing = Standing(
        load_settings(
            database_url=AWAY,
            targets={"other": {"url": "postgres://bob:secret@127.0.0.1:1/b", "aliases": ["b.example"]}},
            admin={"roles": ["ops"]},
        )
    )
    assert standing.admins() == {("default", "ada"), ("default", "ops"), ("other", "bob"), ("other", "ops")}


@pytest.mark.parametrize("url", ["nonsense", "redis://cache:port/0"])
def test_shared_cache_that_cannot_be_asked_is_refused_at_once(url: str) -> None:
    """And not by every worker, with a traceback, when it begins."""
    with pytest.raises(ConfigurationError, match=r"cache\.shared_url cannot be used"):
        Standing(load_settings(database_url=AWAY, cache={"shared_url": url}))


def test_certificate_that_cannot_be_loaded_is_refused_at_once() -> None:
    settings = load_settings(database_url=AWAY, listen={"tls_certificate": "/no/such.pem", "tls_key": "/no/such.key"})
    with pytest.raises(ConfigurationError):
        Standing(settings)
