"""What the sections of the settings are made of: their base, and the types of what most of them hold."""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(allow_inf_nan=False)]
MAX_SECONDS = 2_147_483
"""Of what Postgres is told: it counts milliseconds in 32 bits, and refuses every connection that asks for more."""
Bytes = Annotated[int, Field(ge=1)]
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?[^/?#@\s*A-Z]*")
"""As browsers send it (RFC 6454, 6.2): nothing behind host and port, not even a slash, and no capital letter."""


def _origin(text: str) -> str:
    if text != "null" and not _ORIGIN.fullmatch(text):
        raise ValueError(
            "not an origin as browsers send it, such as https://app.example, in small letters, no / behind"
        )
    return text


def _origin_or_word(text: str) -> str:
    return text if text in {"*", "local"} else _origin(text)


def _place(text: str) -> str:
    first, dash, last = text.partition("-")
    try:
        if dash:
            low, high = ip_address(first.strip()), ip_address(last.strip())
            if low.version != high.version or int(low) > int(high):
                raise ValueError("from the one to the other")
        else:
            ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("not an address, a network a/b or a range a-b") from None
    return text


Origin = Annotated[str, AfterValidator(_origin)]
"""Of a web page; one that no browser ever sends would keep all pages out, and nobody would see why."""
OriginOrWord = Annotated[str, AfterValidator(_origin_or_word)]
"""The same, or * for any and local for this machine's."""
Place = Annotated[str, AfterValidator(_place)]
"""An address, a network a/b or a range a-b."""


class Section(BaseModel):
    """One subject's settings: frozen, and deaf to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
