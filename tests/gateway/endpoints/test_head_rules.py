"""The rules of a head, as a value; what the port makes of one is in `test_guarded`."""

import pytest

from sqlhttp_gateway.endpoints.head_rules import MOST_HEADERS, HeadLimits, ReadHead, check_head, head_too_large
from sqlhttp_gateway.errors import BadRequest, HeadTooLarge
from sqlhttp_gateway.settings import RequestSettings

HOST = (b"host", b"gateway")
LIMITS = HeadLimits()


def head(
    *headers: tuple[bytes, bytes], method: bytes = b"POST", url: bytes = b"/sql", version: str = "1.1"
) -> ReadHead:
    return ReadHead(method, url, version, headers)


@pytest.mark.parametrize(
    "good",
    [
        head(HOST),
        head(version="1.0"),
        head(HOST, url=b"http://GATEWAY/sql"),
        head(HOST, url=b"*", method=b"OPTIONS"),
        head(HOST, (b"transfer-encoding", b" Chunked ")),
        head(HOST, *[(b"x", b"y")] * (MOST_HEADERS - 1)),
    ],
)
def test_head_with_one_meaning_passes(good: ReadHead) -> None:
    check_head(good, LIMITS)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (head(), "the header host is missing"),
        (head(HOST, HOST), "the header host came twice"),
        (head(HOST, url=b"http://other/sql"), "the request's target names another host than the header host"),
        (head(HOST, version="2.0"), "the version of HTTP is 2.0, and must be 1.1 or 1.0"),
        (head(HOST, method=b"CONNECT"), "the gateway is no proxy: CONNECT is not possible"),
        (
            head(HOST, (b"transfer-encoding", b"gzip")),
            "transfer-encoding must be chunked and nothing else, in HTTP/1.1",
        ),
        (
            head((b"transfer-encoding", b"chunked"), version="1.0"),
            "transfer-encoding must be chunked and nothing else, in HTTP/1.1",
        ),
    ],
)
def test_head_that_could_mean_two_things_is_refused(bad: ReadHead, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_head(bad, LIMITS)
    assert caught.value.message == says


def test_size_counts_the_path_and_each_line() -> None:
    limits = HeadLimits(max_bytes=len("/sql") + len("host: gateway\r\n"))
    check_head(head(HOST), limits)
    with pytest.raises(HeadTooLarge) as caught:
        check_head(head(HOST, url=b"/sql?"), limits)
    assert caught.value.message == head_too_large(limits).message
    assert f"{limits.max_bytes} bytes, request.max_head_bytes" in caught.value.message


def test_too_many_headers_are_told_with_their_number() -> None:
    with pytest.raises(HeadTooLarge, match=rf"{MOST_HEADERS + 1} headers \(max is {MOST_HEADERS}\)"):
        check_head(head(HOST, *[(b"x", b"y")] * MOST_HEADERS), LIMITS)


def test_where_no_settings_say_so_the_limits_are_the_settings_defaults() -> None:
    settings = RequestSettings()
    assert (settings.head_timeout, settings.max_head_bytes) == LIMITS
