"""The header `Server-Timing` (W3C): where the time of a request went, for its program and for a browser's tools."""

SERVER_TIMING = b"server-timing"


def encode_server_timing(*, queue: float, connect: float, execute: float, encode: float) -> bytes:
    """The header's value from seconds; the standard counts in milliseconds."""
    return b"queue;dur=%.3f, connect;dur=%.3f, execute;dur=%.3f, encode;dur=%.3f" % (
        queue * 1000,
        connect * 1000,
        execute * 1000,
        encode * 1000,
    )


def encode_plain_timing(waited: float, executed: float, encoded: float) -> bytes:
    """The same of a request for which no connection was opened, for half the price."""
    return b"queue;dur=%.3f, connect;dur=0.000, execute;dur=%.3f, encode;dur=%.3f" % (
        waited * 1000,
        executed * 1000,
        encoded * 1000,
    )
