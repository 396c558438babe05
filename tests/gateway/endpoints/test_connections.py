"""Who has a place, who makes room, and who is told that there is none."""

from dataclasses import dataclass

from sqlhttp_gateway.endpoints import connections as module
from sqlhttp_gateway.endpoints.connections import LEAST_IDLE, MOST_TURNED_AWAY, Connections
from sqlhttp_gateway.events import ConnectionDisplaced, ConnectionRefused, Event

NOW = 100.0


@dataclass(eq=False)
class Connection:
    """One over HTTP; busy unless it says since when it is idle."""

    idle_since: float | None = None
    is_over: bool = False

    def hang_up(self) -> None:
        self.is_over = True


def full(*connections: Connection, told: list[Event] | None = None) -> Connections:
    """With a place for each of these and no more."""
    made = Connections(len(connections), (told if told is not None else []).append)
    assert [made.enter(each, NOW) for each in connections] == [None] * len(connections)
    return made


def test_all_doors_share_the_places() -> None:
    connections = Connections(3)
    assert connections.enter(Connection(), NOW) is None
    assert connections.enter_tunnel(Connection(), NOW) is None
    connections.enter_websocket()
    assert connections.snapshot() == ({"http": 1, "websocket": 1, "tcp": 1}, 3)
    assert connections.enter(Connection(), NOW) is not None
    assert connections.enter_tunnel(Connection(), NOW) is not None


def test_refusal_has_the_number_the_setting_and_a_way_out() -> None:
    told: list[Event] = []
    connections = full(Connection(), told=told)
    refused = connections.enter(Connection(), NOW)
    assert refused is not None
    assert refused.message == "1 programs are connected and none of them is idle (listen.max_connections)"
    assert (refused.status, refused.sqlstate, refused.retry_after, refused.retryable) == (503, "53300", 1, True)
    assert refused.hint == "Have programs use fewer connections, add workers, or raise listen.max_connections."
    connections.enter_tunnel(Connection(), NOW)
    assert told == [ConnectionRefused("http"), ConnectionRefused("tcp")]


def test_who_has_been_idle_longest_makes_room() -> None:
    told: list[Event] = []
    busy, first, second = Connection(), Connection(NOW - 30), Connection(NOW - 40)
    connections = full(busy, first, second, told=told)
    assert connections.enter(Connection(), NOW) is None
    assert (busy.is_over, first.is_over, second.is_over) == (False, False, True)
    assert connections.enter_tunnel(Connection(), NOW) is None
    assert first.is_over
    assert connections.enter(Connection(), NOW) is not None
    assert told[:2] == [ConnectionDisplaced(40.0), ConnectionDisplaced(30.0)]
    assert connections.taken == 3


def test_one_that_was_just_used_does_not_make_room_for_its_next_request_may_be_on_its_way() -> None:
    connections = full(just := Connection(NOW - LEAST_IDLE + 0.1))
    assert connections.enter(Connection(), NOW) is not None
    assert connections.enter(Connection(), NOW + 1.0) is None
    assert just.is_over


def test_one_that_was_used_since_it_was_looked_at_stays() -> None:
    first, second, third = (Connection(NOW - since) for since in (40, 30, 20))
    connections = full(first, second, third)
    assert connections.enter(Connection(), NOW) is None
    second.idle_since = NOW  # it was asked something meanwhile
    assert connections.enter(Connection(), NOW) is None
    assert (first.is_over, second.is_over, third.is_over) == (True, False, True)


def test_one_that_has_left_meanwhile_is_passed_over() -> None:
    first, second, third = (Connection(NOW - since) for since in (40, 30, 20))
    connections = full(first, second, third)
    assert connections.enter(Connection(), NOW) is None
    connections.leave(second)
    assert connections.enter(Connection(), NOW) is None, "the place that the second has left"
    assert connections.enter(Connection(), NOW) is None
    assert (second.is_over, third.is_over) == (False, True)


def test_whoever_comes_by_the_thousand_costs_one_look_for_many() -> None:
    idle = [Connection(NOW - 10) for _ in range(1000)]
    connections, looks = full(*idle), 0
    look = connections._look

    def counted(now: float) -> object:
        nonlocal looks
        looks += 1
        return look(now)

    connections._look = counted  # type: ignore[assignment, method-assign]
    assert all(connections.enter(Connection(), NOW) is None for _ in range(1000))
    assert all(each.is_over for each in idle)
    assert all(connections.enter(Connection(), NOW) is not None for _ in range(1000))
    assert looks == -(-1000 // module._AT_ONCE) + 1, "and nobody is looked for again at once where nobody was idle"


def test_of_those_who_are_told_that_there_is_no_place_there_is_a_bound_too() -> None:
    connections = full(Connection())
    turned_away = [Connection() for _ in range(MOST_TURNED_AWAY + 2)]
    for number, each in enumerate(turned_away):
        enter = connections.enter if number % 2 else connections.enter_tunnel
        assert enter(each, NOW) is not None
    assert [each.is_over for each in turned_away] == [True, True] + [False] * MOST_TURNED_AWAY


def test_every_door_gives_back_the_place_that_it_took() -> None:
    connections = Connections(3)
    first = Connection()
    assert connections.enter_tunnel(first, NOW) is None
    connections.enter_websocket()
    connections.leave_tunnel(first, None)
    connections.leave_websocket()
    assert connections.snapshot() == ({"http": 0, "websocket": 0, "tcp": 0}, 3)


def test_one_makes_room_from_the_moment_on_in_which_it_has_been_idle_long_enough() -> None:
    connections = full(just := Connection(NOW))
    assert connections.enter(Connection(), NOW + LEAST_IDLE - module._LOOK_EVERY) is not None
    assert connections.enter(Connection(), NOW + LEAST_IDLE - module._LOOK_EVERY / 2) is not None
    assert connections.enter(Connection(), NOW + LEAST_IDLE) is None, "and it is looked for again by then"
    assert just.is_over


def test_those_who_were_told_and_have_gone_count_no_more() -> None:
    connections = full(Connection())
    for _ in range(MOST_TURNED_AWAY):
        connections.enter(gone := Connection(), NOW)
        connections.leave(gone)
    turned_away = [Connection() for _ in range(MOST_TURNED_AWAY)]
    for each in turned_away:
        connections.enter_tunnel(each, NOW)
    assert not any(each.is_over for each in turned_away)
    assert not gone.is_over


def test_who_was_not_let_in_leaves_no_place_behind() -> None:
    connections = full(first := Connection())
    second, third = Connection(), Connection()
    connections.enter(second, NOW)
    refused = connections.enter_tunnel(third, NOW)
    connections.leave(second)
    connections.leave_tunnel(third, refused)
    assert connections.taken == 1
    connections.leave(first)
    connections.leave(first)
    assert connections.taken == 0


def test_websocket_takes_the_place_that_its_http_connection_leaves() -> None:
    connections = full(upgraded := Connection())
    connections.leave(upgraded)
    connections.enter_websocket()
    assert connections.enter(Connection(), NOW) is not None
    connections.leave_websocket()
    assert connections.enter(Connection(), NOW) is None


def test_those_at_their_beginning_count_and_there_is_room_to_tell_some_that_there_is_none() -> None:
    connections = full(Connection())
    assert connections.may_greet(MOST_TURNED_AWAY - 1, NOW)
    assert not connections.may_greet(MOST_TURNED_AWAY, NOW)
    connections = full(idle := Connection(NOW - 5))
    assert connections.may_greet(MOST_TURNED_AWAY, NOW)
    assert idle.is_over


def test_a_new_limit_holds_for_who_comes_next() -> None:
    connections = full(Connection(), Connection())
    connections.reconfigure(3)
    assert connections.enter(Connection(), NOW) is None
    connections.reconfigure(1)
    assert connections.taken == 3
    assert connections.enter(Connection(), NOW) is not None
