import pytest

from sqlhttp_gateway.neon.timing import encode_plain_timing, encode_server_timing, timing_of_parts


def test_seconds_become_milliseconds_under_the_names_of_the_phases() -> None:
    assert encode_server_timing(queue=0.0012344, connect=0.0, execute=1.5, encode=0.00002) == (
        b"queue;dur=1.234, connect;dur=0.000, execute;dur=1500.000, encode;dur=0.020"
    )


@pytest.mark.parametrize(
    ("waited", "executed", "encoded"),
    [
        (0.0012344, 1.5, 0.00002),
        (0.0, 0.0, 0.0),
        (0.0000012, 0.0999991, 0.0123456),
        (0.0009996, 0.0120004, 0.000001),
        (0.0999996, 0.1, 0.2),
        (3600.0, 0.001, 0.0),
        (0.001, -0.001, 0.0),
    ],
)
def test_plain_timing_is_the_same_without_a_connection_that_was_opened(
    waited: float, executed: float, encoded: float
) -> None:
    told = encode_server_timing(queue=waited, connect=0.0, execute=executed, encode=encoded)
    assert encode_plain_timing(waited, executed, encoded) == told
    assert timing_of_parts(waited, executed, encoded) == told
