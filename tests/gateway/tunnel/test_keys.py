"""Cancel keys."""

import pytest

from sqlhttp_gateway.tunnel import keys
from sqlhttp_gateway.tunnel.keys import CancelKeys


def test_key_calls_what_it_was_issued_for_and_nothing_else() -> None:
    called: list[str] = []
    holders = CancelKeys()
    one, two = holders.issue(lambda: called.append("one")), holders.issue(lambda: called.append("two"))
    assert holders.show(*two)
    assert called == ["two"]
    assert holders.show(*one)
    assert called == ["two", "one"]


def test_key_is_a_process_id_and_four_bytes_that_nobody_can_guess() -> None:
    holders = CancelKeys()
    issued = [holders.issue(lambda: None) for _ in range(100)]
    assert len({key.process_id for key in issued}) == 100
    assert len({key.secret for key in issued}) == 100
    assert all(0 < key.process_id < 2**31 and len(key.secret) == 4 for key in issued)


@pytest.mark.parametrize("secret", [b"", b"\0" * 4, b"\0" * 32])
def test_wrong_secret_calls_nothing(secret: bytes) -> None:
    called: list[str] = []
    holders = CancelKeys()
    key = holders.issue(lambda: called.append("one"))
    assert not holders.show(key.process_id, secret)
    assert called == []


def test_revoked_key_is_no_key() -> None:
    holders = CancelKeys()
    key = holders.issue(lambda: pytest.fail("called"))
    holders.revoke(key)
    assert not holders.show(*key)
    holders.revoke(key)  # once more does no harm


def test_process_id_that_is_taken_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([4, 4, 4, 5])
    monkeypatch.setattr(keys.secrets, "randbelow", lambda _: next(numbers))
    holders = CancelKeys()
    assert [holders.issue(lambda: None).process_id, holders.issue(lambda: None).process_id] == [5, 6]


def test_key_names_the_worker_that_it_belongs_to() -> None:
    workers = [CancelKeys(workers=3, number=number) for number in range(3)]
    for number, worker in enumerate(workers):
        for _ in range(50):
            key = worker.issue(lambda: None)
            assert 0 < key.process_id <= 0x7FFFFFFF
            assert [each.owner(key.process_id) for each in workers] == [number] * 3
