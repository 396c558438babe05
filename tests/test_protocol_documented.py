"""Headers and errors of the protocol are explained, in the tables that `make docs` writes."""

import re

from sqlhttp_gateway import errors
from sqlhttp_gateway.neon import caching, headers
from sqlhttp_gateway.neon.bookmark import BOOKMARK
from sqlhttp_gateway.neon.timing import SERVER_TIMING
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.observe.families import snake
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


CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.GatewayError) and each is not errors.GatewayError
]
_, _, BEHIND = documents.README.read_text().partition("<!-- errors: written by make docs -->")
TABLE, _, BELOW = BEHIND.partition("<!-- end of errors -->")


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    told = re.findall(r"^\| `(\w+)` \|", TABLE, re.MULTILINE)
    assert told == [snake(each.__name__) for each in CLASSES]


def test_every_row_says_whether_the_write_may_have_happened_and_the_class_says_the_same() -> None:
    for each, row in zip(CLASSES, TABLE.strip().splitlines()[2:], strict=True):
        _, _, status, _, ran, again, *_ = (cell.strip() for cell in row.split("|"))
        assert status == str(each.status), row
        assert ran == " or ".join(documents.fates(each)), row
        assert (again == "yes") is each.retryable, row
        assert not (again and ran != "no"), row
        if issubclass(each, errors.PostgresError):
            continue
        assert each("as it is usually raised").ran == ran, row


def test_what_postgres_says_of_a_write_is_told_by_severity_and_sqlstate_as_it_is_judged() -> None:
    [told] = re.findall(r"\(severity\s+([^)]*)\)", BELOW)
    severities, _, sqlstates = " ".join(told.split()).partition(", SQLSTATE ")
    assert severities.split(" or ") == list(errors._LAST_WORDS)
    assert sqlstates.replace("…", "").split(", ") == list(errors._UNSURE)
    for code in ("08006", "40003", "57P01", "57P02", "57P04", "23505", "57014", "40001", "57P05"):
        is_unsure = any(code.startswith(each) for each in errors._UNSURE)
        assert errors.PostgresError({"V": "ERROR", "C": code}).may_have_run is is_unsure, code
        for severity in errors._LAST_WORDS:
            assert errors.PostgresError({"V": severity, "C": code}).may_have_run, code
