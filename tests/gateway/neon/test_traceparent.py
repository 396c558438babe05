import pytest

from sqlhttp_gateway.neon.traceparent import TraceParent, decode_traceparent, trace_id

EXAMPLE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_example_of_the_standard_is_read() -> None:
    read = decode_traceparent(EXAMPLE)
    assert read == TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True)
    assert str(read).encode() == EXAMPLE
    assert trace_id(str(read)) == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(("flags", "is_sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)])
def test_only_the_last_bit_of_the_flags_says_sampled(flags: bytes, is_sampled: bool) -> None:
    read = decode_traceparent(EXAMPLE[:-2] + flags)
    assert read is not None
    assert read.is_sampled is is_sampled


def test_later_version_may_say_more_and_is_told_on_as_version_0() -> None:
    read = decode_traceparent(b"cc" + EXAMPLE[2:] + b"-what-the-future-will-be-like")
    assert str(read).encode() == EXAMPLE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        EXAMPLE.upper(),
        b"ff" + EXAMPLE[2:],
        EXAMPLE + b"-more",
        EXAMPLE + b"0",
        EXAMPLE + b"\n",
        b"00-" + b"0" * 32 + EXAMPLE[35:],
        EXAMPLE[:36] + b"0" * 16 + EXAMPLE[52:],
        b"00-4bf92f3577b34da6a3ce929d0e0e473'-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736*/-00f067aa0ba902b7-01",
    ],
)
def test_anything_else_counts_as_absent(value: bytes) -> None:
    assert decode_traceparent(value) is None
