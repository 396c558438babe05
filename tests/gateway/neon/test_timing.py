from sqlhttp_gateway.neon.timing import encode_plain_timing, encode_server_timing


def test_seconds_become_milliseconds_under_the_names_of_the_phases() -> None:
    assert encode_server_timing(queue=0.0012344, connect=0.0, execute=1.5, encode=0.00002) == (
        b"queue;dur=1.234, connect;dur=0.000, execute;dur=1500.000, encode;dur=0.020"
    )


def test_plain_timing_is_the_same_without_a_connection_that_was_opened() -> None:
    assert encode_plain_timing(0.0012344, 1.5, 0.00002) == encode_server_timing(
        queue=0.0012344, connect=0.0, execute=1.5, encode=0.00002
    )
