from sqlhttp_gateway.neon.timing import encode_server_timing


def test_seconds_become_milliseconds_under_the_names_of_the_phases() -> None:
    assert encode_server_timing(queue=0.0012344, connect=0.0, execute=1.5, encode=0.00002) == (
        b"queue;dur=1.234, connect;dur=0.000, execute;dur=1500.000, encode;dur=0.020"
    )
