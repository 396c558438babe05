"""Tokens, true and forged: what passes, and the words that each failed check gets."""

import json
import tracemalloc
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sqlhttp_gateway.auth.jwks import KeySet
from sqlhttp_gateway.auth.jwt import MAX_LENGTH, Issuer, Tokens, Verified
from sqlhttp_gateway.errors import InvalidToken, KeySetUnavailable
from tests.support.issuer import Issuer as Signer
from tests.support.issuer import encode, new_private_key, sign

NOW = 1_700_000_000
SIGNER = Signer()
for _algorithm in ("RS256", "ES256", "ES384", "EdDSA"):
    SIGNER.rotate(_algorithm, _algorithm)
OTHER = Signer()
OTHER.rotate("ES256")
OTHER.rotate("other")
SECRET = b"0123456789abcdef0123456789abcdef"
MALFORMED = "not a valid JWT encoding"


def issuer(signer: Signer = SIGNER, **changes: Any) -> Issuer:
    values: dict[str, Any] = {"name": "mine", "keys": KeySet("mine", signer.jwks), "roles": frozenset({"web"})}
    return Issuer(**(values | changes))


async def verified(text: str, *issuers: Issuer, now: float = NOW, role: str = "web", **place: str) -> Verified:
    tokens = Tokens(issuers or (issuer(),), clock=lambda: now)
    return await tokens.verify(text, **({"target": "default", "database": "main"} | place), role=role)


async def refusal(text: str, *issuers: Issuer, **rest: Any) -> str:
    with pytest.raises(InvalidToken) as refused:
        await verified(text, *issuers, **rest)
    assert refused.value.status == 400
    return refused.value.message


def token(claims: Any = None, key_id: str = "ES256", **header: Any) -> str:
    return SIGNER.token(key_id, {"sub": "ann"} if claims is None else claims, **header)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
async def test_token_of_each_algorithm_passes(algorithm: str) -> None:
    found = await verified(token(key_id=algorithm))
    assert (found.role, found.subject, json.loads(found.claims)) == ("web", "ann", {"sub": "ann"})


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
async def test_longer_rsa_hashes_pass_where_the_key_does_not_say_otherwise(algorithm: str) -> None:
    _, key = SIGNER.keys["RS256"]
    public = SIGNER.public("RS256")
    del public["alg"]
    keys = KeySet("mine", lambda: json.dumps({"keys": [public]}).encode())
    text = sign(algorithm, key, {"alg": algorithm, "kid": "RS256"}, {"sub": "ann"})
    assert (await verified(text, issuer(keys=keys))).subject == "ann"


async def test_token_that_passed_keeps_no_more_memory_than_it_needs() -> None:
    """Thousands are remembered."""
    texts = [token({"sub": "ann", "jti": number}) for number in range(100)]
    await verified(texts[0])
    tracemalloc.start()
    try:
        kept = [await verified(text) for text in texts]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(kept) < 4000


async def test_shared_secret_passes_without_a_key_id() -> None:
    text = sign("HS256", SECRET, {"alg": "HS256"}, {"sub": "ann"})
    assert (await verified(text, issuer(keys=None, secret=SECRET))).subject == "ann"
    wrong = sign("HS256", SECRET[::-1], {"alg": "HS256"}, {"sub": "ann"})
    assert "signature error" in await refusal(wrong, issuer(keys=None, secret=SECRET))


# ── the form ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é", token() + ".", token() + "=", token()[:-1] + "\n",
        token().replace(".", " ."), "x" * MAX_LENGTH + token(), encode(b"[]") + "." + encode(b"{}") + ".",
        encode(b"{") + "." + encode(b"{}") + ".", encode(b"\xff") + ".e30.", "e30.e30" + "." + "A",
    ],
)  # fmt: skip
async def test_what_is_no_jwt_is_told_so(text: str) -> None:
    message = await refusal(text)
    assert MALFORMED in message or message == "signature algorithm not supported"  # `{}` names no algorithm


@pytest.mark.parametrize(
    "claims",
    [
        b'{"sub":"ann","sub":"bob"}', b'{"sub":"ann","x":{"a":1,"a":2}}', b'{"sub":"a\\u0000b"}', b'{"\\u0000":1}',
        b'{"x":NaN}', b'{"x":Infinity}', b'{"sub":"\\ud800"}', b'{"x":1e999}'[:-1] + b",}", b"[]", b"null", b'"x"',
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"x":' + b"9" * 40 + b"}", b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
async def test_claims_that_could_mean_two_things_or_cannot_be_stored_are_no_jwt(claims: bytes) -> None:
    assert MALFORMED in await refusal(token(claims))


async def test_backslash_before_u0000_is_no_nul() -> None:
    assert (await verified(token(b'{"sub":"a\\\\u0000"}'))).subject == "a\\u0000"


async def test_header_that_says_something_twice_is_no_jwt() -> None:
    _, key = SIGNER.keys["ES256"]
    assert MALFORMED in await refusal(sign("ES256", key, b'{"alg":"none","alg":"ES256","kid":"ES256"}', {}))


# ── keys and algorithms ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 1, "HS384", "HS512", "PS256", "ES512"])
async def test_no_algorithm_or_one_that_is_not_offered_is_refused(algorithm: object) -> None:
    text = f"{encode(json.dumps({'alg': algorithm, 'kid': 'ES256'}).encode())}.{encode(b'{}')}."
    assert await refusal(text) == "signature algorithm not supported"


async def test_public_key_is_no_secret() -> None:
    """The classic confusion: a token signed by HS256 with the text of the RSA public key, which everybody has."""
    _, key = SIGNER.keys["RS256"]
    public = key.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(SIGNER.public("RS256")).encode(),
    ):
        import hashlib
        import hmac

        signed = f"{encode(json.dumps({'alg': 'HS256', 'kid': 'RS256'}).encode())}.{encode(b'{}')}"
        forged = f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
        assert await refusal(forged) == "signature algorithm not supported"
        both = issuer(), issuer(name="shared", keys=None, secret=SECRET)
        assert "signature error" in await refusal(forged, *both)


async def test_key_of_another_kind_does_not_serve_an_algorithm() -> None:
    _, key = SIGNER.keys["ES256"]
    text = sign("ES256", key, {"alg": "ES256", "kid": "RS256"}, {})
    assert await refusal(text) == "signature algorithm not supported"


async def test_algorithm_that_the_issuer_does_not_use_is_refused() -> None:
    assert await refusal(token(), issuer(algorithms=("RS256",))) == "signature algorithm not supported"


async def test_key_id_is_needed() -> None:
    _, key = SIGNER.keys["ES256"]
    assert await refusal(sign("ES256", key, {"alg": "ES256"}, {})) == "missing key id"


@pytest.mark.parametrize(
    "key_id",
    ["other", "", "../../etc/passwd", "' OR 1=1 --", "http://127.0.0.1/jwks.json", "|cat /etc/passwd"],
)
async def test_key_id_chooses_among_the_issuers_own_keys_and_nothing_else(key_id: str) -> None:
    assert await refusal(token(kid=key_id)) == "jwk not found"


@pytest.mark.parametrize("key_id", [1, ["ES256"], {"a": 1}, True])
async def test_key_id_that_is_no_text_is_no_jwt(key_id: object) -> None:
    assert MALFORMED in await refusal(token(kid=key_id))


async def test_key_in_the_tokens_own_header_is_not_looked_at() -> None:
    _, evil = OTHER.keys["other"]
    header = {"alg": "ES256", "kid": "ES256", "jwk": OTHER.public("other"), "jku": "http://127.0.0.1/", "x5u": "x"}
    assert "signature error" in await refusal(sign("ES256", evil, header, {"sub": "ann"}))


async def test_critical_headers_are_refused() -> None:
    assert "critical header" in await refusal(token(crit=["b64"], b64=False))


async def test_claims_that_were_changed_do_not_match_the_signature() -> None:
    head, _, signature = token().split(".")
    for claims in (b'{"sub":"bob"}', b'{"sub":"ann" }'):
        assert "signature error" in await refusal(f"{head}.{encode(claims)}.{signature}")
    assert "signature error" in await refusal(token().rpartition(".")[0] + ".")
    assert "signature error" in await refusal(f"{token().rpartition('.')[0]}.{encode(bytes(64))}")


async def test_key_of_another_issuer_with_the_same_id_does_not_match() -> None:
    assert "signature error" in await refusal(OTHER.token("ES256", {"sub": "ann"}))


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("now", "passes"), [(NOW + 29.9, True), (NOW + 30, False)])
async def test_token_ends_with_exp_and_the_leeway(now: float, passes: bool) -> None:
    text = token({"exp": NOW})
    if passes:
        assert (await verified(text, now=now)).expires_at == NOW + 30
    else:
        assert await refusal(text, now=now) == f"JWT token has expired (exp={NOW})"


@pytest.mark.parametrize(("now", "passes"), [(NOW - 30, False), (NOW - 29.9, True)])
async def test_token_begins_with_nbf_less_the_leeway(now: float, passes: bool) -> None:
    text = token({"nbf": NOW})
    if passes:
        await verified(text, now=now)
    else:
        assert await refusal(text, now=now) == f"JWT token is not yet ready to use (nbf={NOW})"


@pytest.mark.parametrize("moment", [-1, 1.5, "1", True, [], 1 << 63])
@pytest.mark.parametrize("name", ["exp", "nbf"])
async def test_moment_that_is_no_whole_number_is_no_jwt(name: str, moment: object) -> None:
    assert MALFORMED in await refusal(token({name: moment}))


@pytest.mark.parametrize("audience", ["api", ["x", "api"]])
async def test_audience_is_one_or_one_of_several(audience: object) -> None:
    await verified(token({"aud": audience}), issuer(audience="api"))


@pytest.mark.parametrize(
    "claims", [{}, {"aud": None}, {"aud": "API"}, {"aud": []}, {"aud": {"api": 1}}, {"aud": "apis"}]
)
async def test_other_or_missing_audience_is_refused(claims: dict[str, object]) -> None:
    assert await refusal(token(claims), issuer(audience="api")) == "invalid JWT token audience"


@pytest.mark.parametrize("claims", [{}, {"iss": "https://evil.example"}, {"iss": ["https://mine.example"]}])
async def test_other_or_missing_issuer_is_refused(claims: dict[str, object]) -> None:
    mine = issuer(issuer="https://mine.example")
    assert await refusal(token(claims), mine) == "invalid JWT token issuer"
    await verified(token({"iss": "https://mine.example"}), mine)


# ── for whom ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_role_that_is_not_the_issuers_gets_the_same_words_as_an_unknown_key() -> None:
    assert await refusal(token(), role="admin") == "jwk not found"


async def test_other_target_or_database_than_the_issuers_is_refused() -> None:
    mine = issuer(databases=frozenset({"main"}))
    assert (await verified(token(), mine)).issuer is mine
    assert await refusal(token(), mine, database="other") == "jwk not found"
    assert await refusal(token(), mine, target="reports") == "jwk not found"


async def test_claim_names_the_role_where_the_issuer_says_so() -> None:
    mine = issuer(role_claim="role")
    assert (await verified(token({"role": "web"}), mine, role="anything")).role == "web"
    for claims in ({"role": "admin"}, {"role": ["web"]}, {}):
        assert await refusal(token(claims), mine) == "jwk not found"


async def test_each_of_several_issuers_is_good_for_its_own_roles_alone() -> None:
    first = issuer(SIGNER, roles=frozenset({"web"}), issuer="a")
    second = issuer(OTHER, name="second", roles=frozenset({"shop"}), issuer="b")
    assert (await verified(OTHER.token("ES256", {"iss": "b"}), first, second, role="shop")).issuer is second
    assert await refusal(OTHER.token("ES256", {"iss": "b"}), first, second) == "invalid JWT token issuer"
    assert "signature error" in await refusal(OTHER.token("ES256", {"iss": "a"}), first, second)


async def test_two_issuers_of_one_role_are_told_apart_by_the_key() -> None:
    both = issuer(), issuer(OTHER, name="second")
    assert (await verified(OTHER.token("other", {}), *both)).issuer.name == "second"


@pytest.mark.parametrize("first", ["SIGNER", "OTHER"])
async def test_two_issuers_whose_keys_have_one_id_are_told_apart_by_the_signature(first: str) -> None:
    issuers = [issuer(name="SIGNER"), issuer(OTHER, name="OTHER")]
    issuers.sort(key=lambda each: each.name != first)
    assert (await verified(token(), *issuers)).issuer.name == "SIGNER"
    assert (await verified(OTHER.token("ES256", {}), *issuers)).issuer.name == "OTHER"
    assert "signature" in await refusal(token().rpartition(".")[0] + "." + encode(bytes(64)), *issuers)


@pytest.mark.parametrize("kind", ["keys", "secret"])
async def test_audience_chooses_among_those_for_whom_one_key_signs(kind: str) -> None:
    way: dict[str, Any] = {} if kind == "keys" else {"keys": None, "secret": SECRET}
    issuers = [issuer(name=name, audience=name, **way) for name in ("app", "api")]

    def signed(audience: object) -> str:
        claims = {"aud": audience}
        return token(claims) if kind == "keys" else sign("HS256", SECRET, {"alg": "HS256"}, claims)

    for name in ("app", "api"):
        assert (await verified(signed(name), *issuers)).issuer.name == name
        assert (await verified(signed([name, "third"]), *issuers)).issuer.name == name
    assert await refusal(signed("third"), *issuers) == "invalid JWT token audience"


async def test_issuer_that_cannot_be_reached_is_no_hindrance_to_another_of_the_same_role() -> None:
    def unreachable() -> bytes:
        raise OSError("unreachable")

    down = issuer(name="down", keys=KeySet("down", unreachable))
    assert (await verified(token(), down, issuer())).issuer.name == "mine"
    with pytest.raises(KeySetUnavailable, match="issuer down"):
        await verified(OTHER.token("other", {"sub": "ann"}), down, issuer())


async def test_two_who_share_a_secret_for_one_role_are_told_apart_by_it() -> None:
    """So one secret can follow another without an hour in which nobody gets in."""
    old, new = (
        issuer(name=name, keys=None, secret=secret) for name, secret in (("old", SECRET), ("new", SECRET[::-1]))
    )
    for secret, name in ((SECRET, "old"), (SECRET[::-1], "new")):
        text = sign("HS256", secret, {"alg": "HS256"}, {"sub": "ann"})
        assert (await verified(text, old, new)).issuer.name == name
    text = sign("HS256", b"x" * 32, {"alg": "HS256"}, {"sub": "ann"})
    assert "does not match" in await refusal(text, old, new)


def test_nothing_of_a_secret_or_of_claims_is_shown() -> None:
    assert "0123456789" not in repr(issuer(keys=None, secret=SECRET))
    assert "ann" not in repr(Verified(issuer(), "main", "web", "", None, b'{"sub":"ann"}'))


def test_fresh_keys_differ() -> None:
    assert new_private_key("EdDSA") != new_private_key("EdDSA")
