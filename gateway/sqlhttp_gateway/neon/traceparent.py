"""The header `traceparent` of W3C's Trace Context: which trace a request belongs to, for those who look at traces.

A value that is not of the standard's form counts as absent, as the standard asks; nothing a program sends is passed on
unless it has that form.
"""

import re
from dataclasses import dataclass

TRACEPARENT = b"traceparent"
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Trace and span that a request is a part of, in lower-case hex."""

    trace_id: str
    span_id: str
    is_sampled: bool
    """Whether whoever began the trace keeps it."""

    def __str__(self) -> str:
        """As version 00 of the header."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def decode_traceparent(value: bytes) -> TraceParent | None:
    """What the header says; None when it is not of the standard's form."""
    match = _FORM.fullmatch(value)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))


def trace_id(text: str) -> str:
    """The id of the trace in a `traceparent` as `str` of a TraceParent gives it."""
    return text.split("-")[1]
