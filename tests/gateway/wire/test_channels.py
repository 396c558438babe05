"""LISTEN and UNLISTEN with their transaction, and notifications between transactions."""

from sqlhttp_gateway.wire.channels import Channels
from sqlhttp_gateway.wire.effects import ALL


def listening(*names: bytes) -> Channels:
    channels = Channels()
    channels.heard(names)
    channels.run(unlistens=[], listens=names)
    channels.transaction_ends(commits=True)
    assert channels.settle() == ()
    return channels


def test_only_what_nobody_hears_yet_is_missing() -> None:
    assert listening(b"a").missing([b"a", b"b"]) == (b"b",)


def test_unlisten_holds_from_its_commit_on() -> None:
    channels = listening(b"a", b"b")
    channels.run(unlistens=[b"a", b"unknown"], listens=[])
    assert channels.missing([b"a"]) == ()
    channels.transaction_ends(commits=True)
    assert channels.settle() == (b"a",)
    assert channels.missing([b"a", b"b"]) == (b"a",)


def test_unlisten_of_all() -> None:
    channels = listening(b"a", b"b")
    channels.run(unlistens=[ALL], listens=[])
    assert channels.settle() == (b"a", b"b")


def test_what_is_rolled_back_never_was() -> None:
    channels = listening(b"a")
    channels.run(unlistens=[b"a"], listens=[])
    channels.heard([b"b"])
    channels.run(unlistens=[], listens=[b"a", b"b"])
    channels.transaction_ends(commits=False)
    assert channels.settle() == (b"b",)
    assert channels.missing([b"a", b"b"]) == (b"b",)


def test_rollback_counts_once() -> None:
    channels = listening()
    channels.transaction_ends(commits=False)
    channels.settle()
    channels.heard([b"a"])
    assert channels.settle() == ()


def test_listen_after_unlisten_in_one_transaction_stays() -> None:
    channels = listening(b"a", b"b")
    channels.run(unlistens=[ALL], listens=[])
    channels.run(unlistens=[], listens=[b"a"])
    assert channels.settle() == (b"b",)


def test_notifications_wait_in_order() -> None:
    channels = Channels()
    channels.hold(b"1")
    channels.hold(b"2")
    assert channels.pending == 2
    assert channels.take_held() == [b"1", b"2"]
    assert channels.pending == 0
