"""What servers are to each other, from what each says of itself."""

from sqlhttp_gateway.model import Bookmark
from sqlhttp_gateway.pools.view import Fate, Role, Seen, Server, View, next_view

SYSTEM = 77
UNKNOWN = View((Server("a"), Server("b"), Server("c")))


def primary(position: int = 100, timeline: int = 1, **more: object) -> Seen:
    return Seen(SYSTEM, False, position, timeline, **more)  # type: ignore[arg-type]


def replica(position: int = 100, timeline: int = 1, **more: object) -> Seen:
    return Seen(SYSTEM, True, position, timeline, **more)  # type: ignore[arg-type]


def roles(view: View) -> dict[str, Role]:
    return {server.name: server.role for server in view.servers}


def after(*looks: dict[str, Seen | str], view: View = UNKNOWN) -> View:
    for second, look in enumerate(looks):
        view = next_view(view, look, now=float(second))
    return view


def test_roles_are_what_servers_say_whatever_their_order() -> None:
    view = after({"a": replica(), "b": primary(), "c": "no answer"})
    assert roles(view) == {"a": Role.REPLICA, "b": Role.PRIMARY, "c": Role.DOWN}
    assert view.server("c").reason == "no answer"


def test_promoted_replica_is_the_primary_at_once_and_the_former_never_again() -> None:
    view = after({"a": primary(), "b": replica(), "c": replica()}, {"a": primary(), "b": primary(timeline=2)})
    assert roles(view)["b"] is Role.PRIMARY
    assert roles(view)["a"] is Role.DETACHED
    view = next_view(view, {"a": primary(500), "b": "gone", "c": replica()}, now=9)
    assert view.primary is None, "a primary that missed its replacement would take writes that nobody keeps"


def test_of_two_that_take_writes_on_one_timeline_the_one_that_was_there_stays() -> None:
    view = after({"a": replica(), "b": primary()}, {"a": primary(), "b": primary()})
    assert roles(view)["b"] is Role.PRIMARY
    assert roles(view)["a"] is Role.DETACHED


def test_copy_of_something_else_is_no_replica() -> None:
    view = after({"a": primary(), "b": replica()._replace(system=5)})
    assert roles(view)["b"] is Role.DETACHED


def test_cluster_that_was_made_anew_is_taken_as_it_is() -> None:
    view = after({"a": primary(timeline=4)}, {"a": primary(timeline=1)._replace(system=5), "b": "gone", "c": "gone"})
    assert roles(view)["a"] is Role.PRIMARY
    assert (view.system, view.timeline) == (5, 1)


def test_replica_that_is_not_known_to_follow_the_primarys_timeline_gets_nothing() -> None:
    view = after({"a": primary(timeline=2), "b": replica(timeline=1), "c": replica(timeline=2)})
    assert roles(view) == {"a": Role.PRIMARY, "b": Role.DETACHED, "c": Role.REPLICA}


def test_replicas_go_on_while_the_primary_is_gone() -> None:
    view = after({"a": primary(), "b": replica(), "c": replica()}, {"a": "gone", "b": replica(), "c": replica()})
    assert view.primary is None
    assert roles(view)["b"] is Role.REPLICA


# ── lag ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_replica_of_an_idle_primary_is_not_behind() -> None:
    look: dict[str, Seen | str] = {"a": primary(100), "b": replica(100, replay_age=3600.0)}
    assert after(*[look] * 5).server("b").lag == 0.0


def test_lag_is_since_the_primary_was_beyond_what_the_replica_has() -> None:
    written = [100, 100, 200, 300, 300]
    view = after(*({"a": primary(each), "b": replica(150)} for each in written))
    assert view.server("b").lag == 2.0, "from second 2, when the primary was first seen beyond 150, to second 4"


def test_replica_that_was_behind_before_the_first_look_says_itself_by_how_much() -> None:
    assert after({"a": primary(100), "b": replica(50, replay_age=40.0)}).server("b").lag == 40.0


# ── bookmarks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def fate(view: View, timeline: int, position: int, system: int = SYSTEM) -> Fate:
    return view.fate(Bookmark(system, timeline, position))


def test_bookmark_of_the_primarys_timeline_is_kept() -> None:
    assert fate(after({"a": primary()}), 1, 10**9) is Fate.KEPT


def test_bookmark_beyond_the_fork_is_lost_and_one_before_it_is_kept() -> None:
    view = after({"a": primary(120), "b": replica(100)}, {"a": "gone", "b": primary(150, timeline=2, fork=110)})
    assert fate(view, 1, 110) is Fate.KEPT
    assert fate(view, 1, 111) is Fate.LOST
    assert fate(view, 2, 111) is Fate.KEPT


def test_fork_of_a_server_that_was_not_seen_to_follow_is_not_trusted() -> None:
    view = after({"a": primary(120)}, {"b": primary(150, timeline=3, fork=110)})
    assert fate(view, 1, 50) is Fate.LOST


def test_history_of_the_primary_tells_all_forks() -> None:
    view = after({"a": primary(900, timeline=3, forks={1: 100, 2: 200})})
    assert [fate(view, 1, 100), fate(view, 1, 101), fate(view, 2, 200)] == [Fate.KEPT, Fate.LOST, Fate.KEPT]


def test_forks_are_remembered_over_several_promotions() -> None:
    view = after(
        {"a": primary(100), "b": replica(100), "c": replica(100)},
        {"b": primary(150, timeline=2, fork=100), "c": replica(150, timeline=2)},
        {"c": primary(250, timeline=3, fork=200)},
    )
    assert [fate(view, 1, 100), fate(view, 1, 101), fate(view, 2, 200), fate(view, 2, 201)] == [
        Fate.KEPT,
        Fate.LOST,
        Fate.KEPT,
        Fate.LOST,
    ]


def test_bookmark_of_a_promotion_nobody_saw_yet_is_ahead() -> None:
    assert fate(UNKNOWN, 1, 1) is Fate.AHEAD
    assert fate(after({"a": primary()}), 2, 1) is Fate.AHEAD


def test_bookmark_of_another_system_is_lost() -> None:
    assert fate(after({"a": primary()}), 1, 1, system=5) is Fate.LOST
