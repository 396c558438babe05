"""The header of a bookmark, both ways."""

import pytest

from sqlhttp_gateway.errors import BadRequest
from sqlhttp_gateway.model import Bookmark
from sqlhttp_gateway.neon.bookmark import decode_bookmark, encode_bookmark

BOOKMARK = Bookmark(system=7711192983700826897, timeline=2, position=0x16EDA48)
VALUE = b"v1-6b03aaa4c5ab1b11-00000002-00000000016eda48"


def test_bookmark_comes_back_as_it_was() -> None:
    assert decode_bookmark(encode_bookmark(BOOKMARK)) == BOOKMARK
    assert encode_bookmark(decode_bookmark(VALUE)) == VALUE


def test_later_bookmark_is_the_greater_text() -> None:
    later = [
        BOOKMARK,
        BOOKMARK._replace(position=BOOKMARK.position + 1),
        BOOKMARK._replace(position=1 << 40),
        BOOKMARK._replace(timeline=3, position=0),
        BOOKMARK._replace(timeline=16, position=0),
    ]
    texts = [encode_bookmark(each) for each in later]
    assert texts == sorted(texts)


@pytest.mark.parametrize(
    "value", [b"", b"v1", VALUE + b"0", VALUE.upper(), b"v2" + VALUE[2:], VALUE.replace(b"-", b":")]
)
def test_what_no_gateway_gave_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="sqlhttp-bookmark"):
        decode_bookmark(value)
