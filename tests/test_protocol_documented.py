"""Headers and errors of the protocol are explained, in the tables that `make docs` writes."""

from sqlhttp_gateway import errors
from sqlhttp_gateway.neon import caching, headers
from sqlhttp_gateway.neon.bookmark import BOOKMARK
from sqlhttp_gateway.neon.timing import SERVER_TIMING
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.pools.route import SERVED_BY
from tests.support import documents


def lower(names: dict[str, str]) -> set[bytes]:
    return {name.lower().encode() for name in names}


def test_every_header_that_is_read_or_sent_is_explained() -> None:
    batch = {headers.BATCH_ISOLATION_LEVEL, headers.BATCH_READ_ONLY, headers.BATCH_DEFERRABLE}
    read = {headers.CONNECTION_STRING, headers.RAW_TEXT_OUTPUT, headers.ARRAY_MODE, headers.AUTHORIZATION}
    assert read | batch | {TRACEPARENT, headers.IDEMPOTENCY_KEY, headers.READ_ONLY, BOOKMARK} <= lower(
        headers.REQUEST_HEADERS
    )
    said = {headers.REQUEST_ID, headers.IS_REPLAYED[0], SERVER_TIMING, b"retry-after", BOOKMARK, SERVED_BY, headers.RAN}
    said |= {caching.CACHE_STATUS, caching.AGE}
    assert lower(headers.RESPONSE_HEADERS) == said | batch


def test_every_explanation_is_a_sentence() -> None:
    explained = {**headers.REQUEST_HEADERS, **headers.RESPONSE_HEADERS}
    assert [name for name, meaning in explained.items() if not meaning.endswith(".")] == []
    for row in documents.errors_table().splitlines()[2:]:
        assert row.endswith(". |"), row


def test_every_error_has_a_row() -> None:
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.GatewayError)
    ]
    assert len(documents.errors_table().splitlines()) == 2 + len(classes) - 1
