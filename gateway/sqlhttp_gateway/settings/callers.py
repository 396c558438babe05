"""Callers who show an API key or a token in place of a password: the keys, the issuers, and the logins for them."""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, SecretStr, model_validator
from pydantic.config import JsonDict

from sqlhttp_gateway.settings.allowance import AllowanceSettings
from sqlhttp_gateway.settings.section import Origin, Place, Section

_ALTERNATIVE: JsonDict = {"is_alternative": True}
"""Marks a setting that excludes another, so that the example file shows it as a comment within a comment."""


class LoginSettings(Section):
    """A role as which the gateway logs in for callers who show an API key or a token in place of its password."""

    role: str = Field(description="The role.", min_length=1)
    password: SecretStr = Field(description="Its password.")
    target: str = Field(default="default", description="The target whose role it is.")


class KeySettings(AllowanceSettings):
    """An API key, under the id that `sqlhttp keys create --print` gave it."""

    hash: SecretStr = Field(description="sha256: and 64 hex digits, of the whole key.", examples=["sha256:" + 64 * "0"])
    database: str = Field(description="The database it opens.", min_length=1)
    role: str = Field(description="The role it is for.", min_length=1)
    login: str | None = Field(
        default=None,
        description="The role to log in as and to become the other by SET LOCAL ROLE, as PostgREST's authenticator "
        "does; without it, the role itself.",
        examples=["authenticator"],
    )
    target: str = Field(default="default", description="The target it opens.")
    name: str = Field(default="", description="What people call it.")
    expires_at: AwareDatetime | None = Field(
        default=None,
        description="When it ends, in UTC or with an offset; without it, never.",
        examples=["2030-01-31T00:00:00Z"],
    )
    origins: tuple[Origin, ...] = Field(
        default=(), description="Origins of the pages that may use it, such as https://app.example; none: anybody."
    )
    addresses: tuple[Place, ...] = Field(
        default=(), description="Addresses, networks a/b or ranges a-b that it may come from; none: everywhere."
    )
    read_only: bool = Field(default=False, description="Whether its transactions are read only.")
    statements: tuple[str, ...] | None = Field(
        default=None,
        description="SHA-256 of the only statements it may run, as sqlhttp lock prints; without it, any.",
        examples=[[64 * "0"]],
    )

    @model_validator(mode="after")
    def _are_hashes(self) -> Self:
        if not re.fullmatch("sha256:[0-9a-f]{64}", self.hash.get_secret_value()):
            raise ValueError("hash must be sha256: and 64 hex digits")
        _check_digests(self.statements)
        return self


Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"]


class IssuerSettings(AllowanceSettings):
    """Somebody whose signed tokens (JWT) are good here."""

    jwks_url: str | None = Field(
        default=None,
        description="Where its public keys are; one of jwks_url, jwks_file and secret is needed.",
        examples=["https://issuer.example/.well-known/jwks.json"],
    )
    jwks_file: Path | None = Field(
        default=None, description="A file with its public keys, in the same form.", json_schema_extra=_ALTERNATIVE
    )
    secret: SecretStr | None = Field(
        default=None,
        description="The secret it signs with by HS256, of 32 bytes or more.",
        json_schema_extra=_ALTERNATIVE,
    )
    issuer: str | None = Field(default=None, description="What iss has to be; without it, that is not looked at.")
    audience: str | None = Field(
        default=None, description="What aud has to be or to contain; without it, that is not looked at."
    )
    roles: tuple[str, ...] = Field(
        description="Roles its tokens are good for.", min_length=1, examples=[["authenticated"]]
    )
    role_claim: str | None = Field(
        default=None, description="The claim that names the role; without it, the connection string does."
    )
    login: str | None = Field(
        default=None,
        description="The role to log in as and to become the token's by SET LOCAL ROLE, as PostgREST's authenticator "
        "does; without it, the token's role itself.",
        examples=["authenticator"],
    )
    target: str = Field(default="default", description="The target its tokens open.")
    databases: tuple[str, ...] = Field(default=(), description="Databases its tokens open; none: any.")
    database_claim: str | None = Field(
        default=None, description="The claim that names the database; without it, the connection string does."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"),
        description="Algorithms it signs with; with a secret, HS256 alone.",
        min_length=1,
    )
    read_only: bool = Field(default=False, description="Whether its callers' transactions are read only.")
    statements: tuple[str, ...] | None = Field(
        default=None,
        description="SHA-256 of the only statements its callers may run, as sqlhttp lock prints; without it, any.",
        examples=[[64 * "0"]],
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.jwks_url, self.jwks_file, self.secret)) != 1:
            raise ValueError("one of jwks_url, jwks_file and secret is needed, and no more")
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < 32:
            raise ValueError("secret must have 32 bytes or more")
        if self.jwks_url is not None:
            parts = urlsplit(self.jwks_url)
            if parts.scheme not in {"https", "http"} or not parts.hostname or "@" in parts.netloc or parts.fragment:
                raise ValueError("jwks_url must be https://, with a host, and without a user or a fragment")
        _check_digests(self.statements)
        return self


def _check_digests(statements: tuple[str, ...] | None) -> None:
    if not all(re.fullmatch("[0-9a-f]{64}", each) for each in statements or ()):
        raise ValueError("statements must be SHA-256 digests of 64 hex digits")
