"""How passwords, keys and tokens are proven, whosever they are."""

from typing import Literal

from pydantic import Field

from sqlhttp_gateway.settings.section import Seconds, Section


class AuthSettings(Section):
    """How a caller's password is proven."""

    proof_lifetime: Seconds = Field(
        default=30.0, ge=0, description="Seconds that a proven password is believed; a changed one may work that long."
    )
    verify_by: Literal["auto", "verifier", "login"] = Field(
        default="auto",
        description="verifier: compare with pg_authid; login: log in to Postgres; auto: the first if allowed.",
    )

    failures: int = Field(
        default=10,
        ge=0,
        description="Wrong passwords for one role from one address, in a row and at one worker, after which none is "
        "looked at for a while; 0: any number.",
    )
    failures_within: Seconds = Field(default=150.0, gt=0, description="Seconds within which they count together.")
    failures_refused: Seconds = Field(
        default=120.0, gt=0, description="That while, in seconds. Passwords that were right lately are looked at still."
    )
    keys_table: bool = Field(
        default=False,
        description="Whether API keys are also kept in sqlhttp.api_keys, a table in the default target's database.",
    )
    tenants_table: bool = Field(
        default=False,
        description="Whether tenants are also kept in sqlhttp.tenants, a table in the default target's database.",
    )
    keys_refresh: Seconds = Field(
        default=10.0, gt=0, description="Seconds between two looks at these tables; a revoked key may work that long."
    )
    jwt_leeway: Seconds = Field(
        default=30.0, ge=0, description="Seconds that a token's exp and nbf may be off, for clocks that differ."
    )
    jwks_max_age: Seconds = Field(
        default=300.0, gt=0, description="Seconds after which an issuer's keys are fetched again, in the background."
    )
    jwks_pause: Seconds = Field(
        default=30.0, gt=0, description="Least seconds between two fetches, however many unknown key ids come."
    )
    jwks_max_stale: Seconds = Field(
        default=86_400.0, gt=0, description="Seconds that an issuer's last keys are used while they cannot be fetched."
    )
    jwks_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that fetching an issuer's keys may take.")
    jwks_insecure: bool = Field(
        default=False, description="Whether jwks_url may begin with http://, which is for tests on one machine."
    )
    claims: Literal["auto", "signed", "plain", "off"] = Field(
        default="auto",
        description="How a token's claims reach policies. signed: by pg_session_jwt or the functions of sqlhttp auth "
        "install alone; auto: by them where they are installed, and for listed statements also as request.jwt.claims; "
        "plain: as that for all, which whoever sends SQL can forge; off: not.",
    )
    set_role: Literal["listed", "any"] = Field(
        default="listed",
        description="Which callers may have a login that is not their role. listed: those who run listed statements "
        "alone; any: all, though whoever sends SQL can leave the role by RESET ROLE for any other of the login's.",
    )
