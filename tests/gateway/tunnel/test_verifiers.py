"""Verifiers for the roles whose passwords the gateway holds."""

from dataclasses import replace
from typing import Any

from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.tunnel.verifiers import Verifiers, new_nonce
from sqlhttp_gateway.wire.scram import verify_password

ADA = Dsn("default", None, "app", "ada", None)


class Authenticator:
    def __init__(self, **held: bytes) -> None:
        self.held = held

        self.wrong: list[tuple[str, str]] = []

    async def held_password(self, dsn: Dsn, *, peer: str) -> bytes | None:
        return self.held.get(dsn.role)

    async def was_wrong(self, dsn: Dsn, *, peer: str) -> None:
        self.wrong.append((dsn.role, peer))


async def test_verifier_is_of_the_password_that_is_held_and_made_once() -> None:
    authenticator: Any = Authenticator(ada=b"sesam")
    verifiers = Verifiers(authenticator)
    held = await verifiers.find(ADA, peer="192.0.2.1")
    assert held is not None
    assert verify_password(held.verifier, b"sesam", "ada")
    assert await verifiers.find(ADA, peer="192.0.2.1") is held
    assert "sesam" not in repr(held)


async def test_strangers_who_name_many_hosts_have_one_verifier_made() -> None:
    authenticator: Any = Authenticator(ada=b"sesam")
    verifiers = Verifiers(authenticator)
    dsns = [replace(ADA, host=f"{number}.example") for number in range(5)]
    held = [await verifiers.find(dsn, peer="192.0.2.1") for dsn in dsns]
    assert held[0] is not None
    assert all(each is held[0] for each in held)


async def test_other_password_is_another_verifier() -> None:
    authenticator: Any = Authenticator(ada=b"sesam")
    verifiers = Verifiers(authenticator)
    await verifiers.find(ADA, peer="192.0.2.1")
    authenticator.held["ada"] = b"changed"
    held = await verifiers.find(ADA, peer="192.0.2.1")
    assert held is not None
    assert verify_password(held.verifier, b"changed", "ada")


async def test_role_whose_password_nobody_holds_has_none() -> None:
    authenticator: Any = Authenticator()
    assert await Verifiers(authenticator).find(ADA, peer="192.0.2.1") is None


async def test_what_was_not_proven_counts_as_a_wrong_password() -> None:
    authenticator: Any = Authenticator(ada=b"sesam")
    await Verifiers(authenticator).failed(ADA, peer="192.0.2.1")
    assert authenticator.wrong == [("ada", "192.0.2.1")]


def test_nonces_are_random_and_have_no_comma() -> None:
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) >= 24 and "," not in nonce and nonce.isascii() for nonce in nonces)
