"""What is paused by its name, and what with all others."""

from sqlhttp_gateway.pools.pauses import Pauses


def test_database_is_paused_by_its_name() -> None:
    pauses = Pauses()
    assert not pauses
    pauses.begin("a")
    assert pauses
    assert (pauses.cover("a"), pauses.cover("b")) == (True, False)
    pauses.end("a")
    assert not pauses


def test_all_are_paused_until_all_are_resumed() -> None:
    pauses = Pauses()
    pauses.begin("a")
    pauses.begin(None)
    assert pauses.cover("b")
    pauses.end("a")
    assert pauses.cover("a"), "as long as all are"
    pauses.begin("a")
    pauses.end(None)
    assert not pauses.cover("a")


def test_what_is_paused_can_be_told() -> None:
    pauses = Pauses()
    assert pauses.begun == []
    for each in ("b", None, "a"):
        pauses.begin(each)
    assert pauses.begun == [None, "a", "b"]
    pauses.end("b")
    assert pauses.begun == [None, "a"]
