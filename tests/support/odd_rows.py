"""Single rows that are out of the ordinary, with the columns they should have."""

from tests.support.rows import data_row

ODD = [
    (data_row([None]), 2),
    (data_row([None, None]), 1),
    (data_row([None])[:-1], 1),
    (data_row([b"\xff", None]), 2),
    (data_row([None, b"\xff"]), 2),
    (data_row([b"\xff\xff\xff\xff"]), 1),
    (data_row([b"\xff\xff\xff\xff", None]), 2),
    (data_row([b"\xff" * 5, b""]), 2),
    (data_row([b"1"]), 2),
    (data_row([b"1", b"2"]), 1),
    (data_row([b"1"]) * 2, 1),
    (b"N" + data_row([b"1"])[1:], 1),
    (data_row([b"\xe9"]), 1),
    (data_row([b"\xc3", b"\xa9"]), 2),
    (data_row([b"x" * (1 << 24)]), 1),
    (data_row([b"1"] * 65), 65),
    (data_row([]), 0),
    (b"", 1),
]
