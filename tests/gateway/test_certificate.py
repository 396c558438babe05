"""The certificate: taken as a whole or not at all, and by connections that come after."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key

from sqlhttp_gateway.certificate import Certificate, Loaded, load
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import CertificateLoaded, Event
from sqlhttp_gateway.settings import ListenSettings
from tests.support.certificates import Authority, Files


def settings(files: Files) -> ListenSettings:
    return ListenSettings(tls_certificate=files.certificate, tls_key=files.key)


def served(certificate: Certificate, authority: Authority, *, name: str | None = "localhost", **limits: int) -> bytes:
    """The certificate that a program is shown, in memory."""
    program = ssl.create_default_context(cafile=str(authority.root))
    program.check_hostname = name is not None
    for limit, version in limits.items():
        setattr(program, limit, version)
    to_server, to_program = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = program.wrap_bio(to_program, to_server, server_hostname=name)
    server = certificate.context.wrap_bio(to_server, to_program, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_new_certificate_is_shown_from_the_next_handshake_on_with_a_server_name_or_without(
    tmp_path: Path, name: str | None
) -> None:
    authority, events = Authority(tmp_path), list[Event]()
    certificate = Certificate(settings(authority.issue()), events.append)
    first = served(certificate, authority, name=name)
    assert served(certificate, authority, name=name) == first
    authority.issue(days=60)
    certificate.look()
    assert served(certificate, authority, name=name) != first
    [event] = events
    assert isinstance(event, CertificateLoaded)
    assert (event.expires_at, event.fault) == (certificate.expires_at, "")
    certificate.look()
    assert events == [event]


def test_certificate_that_is_written_while_the_one_before_is_read_is_taken_by_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, events = Authority(tmp_path), list[Event]()
    certificate = Certificate(settings(authority.issue()), events.append)

    def overtaken(given: ListenSettings) -> Loaded:
        found = load(given)
        authority.issue(days=90)
        return found

    authority.issue(days=60)
    with monkeypatch.context() as patch:
        patch.setattr("sqlhttp_gateway.certificate.load", overtaken)
        certificate.look()
    second = served(certificate, authority)
    certificate.look()
    assert served(certificate, authority) != second
    certificate.look()
    assert len(events) == 2


@pytest.mark.parametrize("damage", ["another key", "garbage", "gone"])
def test_files_that_do_not_fit_together_change_nothing_and_are_told_once(tmp_path: Path, damage: str) -> None:
    authority, events = Authority(tmp_path), list[Event]()
    files = authority.issue()
    certificate = Certificate(settings(files), events.append)
    first = served(certificate, authority)
    match damage:
        case "another key":
            files.key.write_bytes(authority.issue("other").key.read_bytes())
        case "garbage":
            files.certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        case "gone":
            files.certificate.unlink()
    certificate.look()
    certificate.look()
    assert served(certificate, authority) == first
    [event] = events
    assert isinstance(event, CertificateLoaded)
    assert "listen.tls_certificate" in event.fault
    authority.issue()
    certificate.look()
    assert served(certificate, authority) != first


async def test_a_look_for_which_no_thread_is_to_be_had_is_told_and_the_next_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, told = Authority(tmp_path), asyncio.Queue[Event]()
    files = authority.issue()
    looks = iter([RuntimeError("can't start new thread")])

    async def to_thread(look: Callable[[], None]) -> None:
        if (error := next(looks, None)) is not None:
            raise error
        look()

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    certificate = Certificate(settings(files).model_copy(update={"tls_refresh": 0.001}), told.put_nowait)
    authority.issue(days=60)
    certificate.start()
    faults = [await asyncio.wait_for(told.get(), 10) for _ in range(3)]
    await certificate.stop()
    assert [event.fault for event in faults if isinstance(event, CertificateLoaded)] == [
        "",
        "can't start new thread",
        "",
    ]


def test_a_change_behind_a_link_is_seen(tmp_path: Path) -> None:
    """Kubernetes points a link to another directory."""
    authority, events = Authority(tmp_path), list[Event]()
    old, new = authority.issue("old"), authority.issue("new")
    link = tmp_path / "current"
    os.symlink(old.certificate, link)
    both = tmp_path / "current.key"
    both.write_bytes(old.key.read_bytes())
    certificate = Certificate(ListenSettings(tls_certificate=link, tls_key=both), events.append)
    first = served(certificate, authority)
    link.unlink()
    os.symlink(new.certificate, link)
    both.write_bytes(new.key.read_bytes())
    certificate.look()
    assert served(certificate, authority) != first


def test_nothing_below_tls_1_2_is_spoken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = Certificate(settings(authority.issue()), lambda event: None)
    served(certificate, authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.tls_certificate: .*missing\.pem"):
        load(ListenSettings(tls_certificate=tmp_path / "missing.pem"))


def test_an_encrypted_key_is_refused_rather_than_asked_about_on_the_terminal(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    key = load_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"not for a log"))
    )
    with pytest.raises(ConfigurationError, match="encrypted") as refused:
        load(settings(files))
    assert "not for a log" not in str(refused.value)
