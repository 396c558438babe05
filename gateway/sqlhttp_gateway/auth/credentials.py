"""What a request shows of itself: an API key, a token, or a password. Sorted by form only; nothing is checked here."""

import base64
import binascii
import re
from typing import NamedTuple

from sqlhttp_gateway.errors import CredentialsMissing

MAX_LENGTH = 16_384
"""Most bytes of an Authorization header; a token with many groups in it reaches a few thousand."""
BEARER_REQUIRED = "missing authentication credentials: required authorization bearer token in JWT format"
PASSWORD_REQUIRED = "missing authentication credentials: required password"

_KEY = re.compile(r"sk_([0-9a-f]{12})_([0-9A-Za-z]{40})")
_JWT = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*", re.ASCII)


class ApiKey(NamedTuple):
    """`sk_ID_SECRET`. `repr` shows the id alone."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"


class Token(NamedTuple):
    """Something that should be a JWT. `repr` shows nothing of it."""

    text: str

    def __repr__(self) -> str:
        return "Token()"


def credentials_from_header(value: bytes) -> ApiKey | Token:
    """The key or token of an Authorization header: `Bearer …`, or for a key also Basic, as `curl -u KEY:` sends it.

    Raises:
        CredentialsMissing: it is neither.
    """
    if len(value) > MAX_LENGTH:
        raise CredentialsMissing(BEARER_REQUIRED, hint=f"The header has more than {MAX_LENGTH} bytes.")
    scheme, _, rest = value.partition(b" ")
    try:
        if scheme == b"Bearer":
            text = rest.decode("ascii")
            return key_from_text(text) or Token(text)
        if scheme.lower() == b"basic":
            user, _, password = base64.b64decode(rest, validate=True).decode("ascii").partition(":")
            key = key_from_text(user) or key_from_text(password)
            if key is not None:
                return key
    except (UnicodeDecodeError, binascii.Error):
        pass
    raise CredentialsMissing(BEARER_REQUIRED)


def credentials_from_password(password: bytes) -> ApiKey | Token | None:
    """The key or token that stands in a password's place; None for what looks like neither."""
    try:
        text = password.decode("ascii")
    except UnicodeDecodeError:
        return None
    return key_from_text(text) or (Token(text) if _JWT.fullmatch(text) else None)


def key_from_text(text: str) -> ApiKey | None:
    """The key that `text` is by its form."""
    match = _KEY.fullmatch(text)
    return ApiKey(match[1], text) if match else None
