"""What is false of what callers were told."""

from tests.faults.ledger import Ledger


def test_what_was_told_and_is_so_is_no_fault() -> None:
    ledger = Ledger()
    ledger.expect(["a"])
    ledger.expect(["b"])
    ledger.expect(["c", "d"])
    ledger.acknowledge(["a"])
    ledger.refuse(["b"])
    assert ledger.faults(["a"]) == []
    assert ledger.faults(["a", "c", "d"]) == [], "nobody was told of c and d"


def test_each_kind_of_lie_is_found() -> None:
    ledger = Ledger()
    ledger.expect(["a"])
    ledger.acknowledge(["a"])
    assert ledger.faults([]) == ["acknowledged and lost: a"]
    ledger.expect(["b"])
    ledger.refuse(["b"])
    assert ledger.faults(["a", "b"]) == ["refused and there: b"]
    assert ledger.faults(["a", "a"]) == ["written 2 times: a"]
    assert ledger.faults(["a", "z"]) == ["written by nobody: z"]
    ledger.expect(["c", "d"])
    assert ledger.faults(["a", "c"]) == ["half a batch: c, d"]
    ledger.strange.append("a row of somebody else")
    assert ledger.faults(["a"]) == ["a row of somebody else"]
