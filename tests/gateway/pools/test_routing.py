"""The choice of a server, without any."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from sqlhttp_gateway.neon.hosts import Wanted
from sqlhttp_gateway.pools.routing import Choice, Load, Reason, choose
from sqlhttp_gateway.pools.view import Role, Server, View

PRIMARY = Server("p", Role.PRIMARY, round_trip=0.001)
ONE = Server("r1", Role.REPLICA, round_trip=0.001)
TWO = Server("r2", Role.REPLICA, round_trip=0.0012)
ALL = View((PRIMARY, ONE, TWO))


def chosen(view: View = ALL, loads: dict[str, Load] | None = None, **more: Any) -> Choice:
    loads = {server.name: Load() for server in view.servers} | (loads or {})
    return choose(view, loads, **{"reads": True, "max_lag": 10.0, "now": 0.0} | more)


def test_write_goes_to_the_primary_and_to_nobody_else() -> None:
    assert chosen(reads=False) == Choice("p", Reason.WRITE)
    assert chosen(View((ONE, TWO)), reads=False) == Choice(None, Reason.WRITE)


def test_read_goes_to_the_replica_with_the_least_to_do() -> None:
    assert chosen(loads={"r1": Load(outstanding=3), "r2": Load(outstanding=2)}).server == "r2"


def test_without_a_fit_replica_the_primary_reads_and_it_is_told() -> None:
    unfit = {"r1": Load(out_until=1.0), "r2": Load(out_until=1.0)}
    assert chosen(loads=unfit) == Choice("p", Reason.NO_REPLICA)
    assert chosen(loads=unfit, now=1.0).reason is Reason.READ, "the pause is over"


def test_replica_that_is_too_far_behind_gets_nothing() -> None:
    late = View((PRIMARY, ONE._replace(lag=10.1), TWO))
    assert {chosen(late, {"r2": Load(outstanding=n)}).server for n in range(9)} == {"r2"}
    assert chosen(View((PRIMARY, ONE._replace(lag=10.1)))).server == "p"
    assert chosen(View((PRIMARY, ONE._replace(lag=10.1))), max_lag=0.0).server == "r1"


def test_server_that_failed_this_request_is_not_asked_again() -> None:
    assert chosen(without=frozenset({"r1"})).server == "r2"
    assert chosen(without=frozenset({"r1", "r2"})).server == "p"


def test_equals_take_turns() -> None:
    loads = {"p": Load(), "r1": Load(), "r2": Load()}
    counts: Counter[str] = Counter()
    for turn in range(1, 101):
        server = choose(ALL, loads, reads=True, max_lag=0.0, now=0.0).server
        assert server is not None
        loads[server].chosen = turn
        counts[server] += 1
    assert counts == {"r1": 50, "r2": 50}


def test_those_of_many_at_once_are_spread_evenly_wherever_they_end_in_between() -> None:
    loads = {"p": Load(), "r1": Load(), "r2": Load()}
    counts: Counter[str] = Counter()
    under_way: list[str] = []
    chance = Random(1)
    for turn in range(1, 301):
        while len(under_way) >= 6:
            loads[under_way.pop(chance.randrange(6))].outstanding -= 1
        server = choose(ALL, loads, reads=True, max_lag=0.0, now=0.0).server
        assert server is not None
        loads[server].chosen = turn
        loads[server].outstanding += 1
        under_way.append(server)
        counts[server] += 1
    assert set(counts) == {"r1", "r2"}
    assert max(counts.values()) <= 165, counts


def test_far_replica_gets_reads_only_when_the_near_one_is_busy() -> None:
    far = View((PRIMARY, ONE, TWO._replace(round_trip=0.030)))
    assert chosen(far, {"r1": Load(outstanding=5)}).server == "r1"
    assert chosen(far, {"r1": Load(outstanding=35)}).server == "r2"


@pytest.mark.parametrize("wanted", [Wanted.PRIMARY, Wanted.READ_WRITE])
def test_target_that_wants_its_primary_reads_there_too(wanted: Wanted) -> None:
    assert chosen(wanted=wanted) == Choice("p", Reason.WANTED)


@pytest.mark.parametrize("wanted", [Wanted.STANDBY, Wanted.READ_ONLY])
def test_target_that_wants_standbys_never_uses_the_primary(wanted: Wanted) -> None:
    assert chosen(wanted=wanted, reads=False).server == "r1"
    assert chosen(View((PRIMARY,)), wanted=wanted).server is None


def test_target_that_prefers_standbys_takes_the_primary_where_there_is_none() -> None:
    assert chosen(wanted=Wanted.PREFER_STANDBY, reads=False).server == "r1"
    assert chosen(View((PRIMARY,)), wanted=Wanted.PREFER_STANDBY, reads=False) == Choice("p", Reason.NO_REPLICA)
