"""Positions in the log."""

import pytest

from sqlhttp_gateway.wire.lsn import end_of_last_record, lsn_from_text, timeline_from_file


@pytest.mark.parametrize(("text", "position"), [("0/0", 0), ("0/16B3748", 0x16B3748), ("16/B374D848", 0x16B374D848)])
def test_text_is_a_number_of_bytes(text: str, position: int) -> None:
    assert lsn_from_text(text) == position


@pytest.mark.parametrize("text", ["", "16", "/", "0/x", "0/123456789", " 0/1"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="form"):
        lsn_from_text(text)


def test_timeline_is_in_the_name_of_the_file() -> None:
    assert timeline_from_file("0000000A0000000100000016") == 10


@pytest.mark.parametrize(
    ("position", "offset", "end"),
    [
        (0x3000028, 0x28, 0x3000000),  # a new file: behind its long header
        (0x3002018, 0x2018, 0x3002000),  # a new page: behind its header
        (0x3002028, 0x2028, 0x3002028),  # that is a record's end on any other page
        (0x3000100, 0x100, 0x3000100),
    ],
)
def test_header_of_an_empty_page_is_nothing_to_wait_for(position: int, offset: int, end: int) -> None:
    assert end_of_last_record(position, offset) == end
