"""Claims that row-level security can rely on, though the callers send SQL of their own.

Whatever SQL can set, a caller's SQL can set too; so the claims are signed. The secret lies in a table that only the
gateway's role can read. A request's transaction begins with `sqlhttp.begin_claims`, whose argument is signed by the
gateway for one backend process and a short time. It puts the claims, signed once more for this very transaction, into
a setting that ends with the transaction. `auth.user_id()` and `auth.session()`, which are Neon's, and `auth.uid()`,
`auth.jwt()` and `auth.role()`, which are Supabase's, believe nothing else: a setting that a caller made is an error,
one of an earlier transaction too, and none at all is NULL.

The functions run as their owner with a fixed search_path, name everything in full, and are bound to a policy by the
policy's own definition, so that nothing a caller creates, temporary or not, can take their place.

Here is only what is said to Postgres and how it is signed. `auth.claims` decides when.
"""

import hashlib
import hmac

from sqlhttp_gateway.model import Statement
from sqlhttp_gateway.pools.for_owner import only_for_owner

BLOCK = 64
"""Bytes of a block of SHA-256, to which HMAC pads its key (RFC 2104)."""
SECRET_BYTES = 32
MAX_SKEW = 300
"""Seconds that the clocks of gateway and Postgres may differ; a signed request is worthless after as many."""
_SAFE = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

INSTALL = (
    "CREATE SCHEMA IF NOT EXISTS sqlhttp",
    "CREATE SCHEMA IF NOT EXISTS auth",
    "CREATE TABLE IF NOT EXISTS sqlhttp.claims_secret ("
    "is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one), inner_pad bytea NOT NULL, outer_pad bytea NOT NULL)",
    only_for_owner("sqlhttp.claims_secret"),
    # HMAC-SHA256 without an extension: the padded keys are kept, Postgres hashes.
    """CREATE OR REPLACE FUNCTION sqlhttp.mac(message text) RETURNS bytea LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
SELECT sha256(outer_pad || sha256(inner_pad || convert_to(message, 'UTF8'))) FROM sqlhttp.claims_secret
$$""",
    # Both are hashed before they are compared, so that the time it takes tells nothing of the right one.
    """CREATE OR REPLACE FUNCTION sqlhttp.matches(message text, given text) RETURNS boolean LANGUAGE sql STABLE
PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce(sha256(outer_pad || convert_to(given, 'UTF8'))
    = sha256(outer_pad || convert_to(encode(sqlhttp.mac(message), 'hex'), 'UTF8')), false) FROM sqlhttp.claims_secret
$$""",
    "REVOKE ALL ON FUNCTION sqlhttp.mac(text), sqlhttp.matches(text, text) FROM PUBLIC",
    """CREATE OR REPLACE FUNCTION sqlhttp.here() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp AS $$
SELECT format('%s.%s.', pg_backend_pid(), (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint)
$$""",
    f"""CREATE OR REPLACE FUNCTION sqlhttp.begin_claims(token text) RETURNS void LANGUAGE plpgsql VOLATILE STRICT
{_SAFE} AS $$
DECLARE
    given text := left(token, 64);
    message text := substr(token, 65);
    pid text := split_part(message, '.', 1);
    issued text := split_part(message, '.', 2);
    claims text := substr(message, length(pid) + length(issued) + 3);
BEGIN
    IF NOT sqlhttp.matches('request.' || message, given) THEN
        RAISE EXCEPTION 'the claims are not signed by the gateway' USING ERRCODE = '28000';
    END IF;
    IF pid <> pg_backend_pid()::text THEN
        RAISE EXCEPTION 'the claims are signed for another connection' USING ERRCODE = '28000';
    END IF;
    IF abs(extract(epoch FROM clock_timestamp()) - issued::numeric / 1000000) > {MAX_SKEW} THEN
        RAISE EXCEPTION 'the claims were signed too long ago, or the clocks differ by more than {MAX_SKEW} s'
            USING ERRCODE = '28000';
    END IF;
    PERFORM set_config('sqlhttp.claims',
        encode(sqlhttp.mac('transaction.' || sqlhttp.here() || claims), 'hex') || claims, true);
END $$""",
    f"""CREATE OR REPLACE FUNCTION sqlhttp.claims() RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL RESTRICTED {_SAFE}
AS $$
DECLARE
    signed text := current_setting('sqlhttp.claims', true);
BEGIN
    IF signed IS NULL OR signed = '' THEN
        RETURN NULL;
    END IF;
    IF NOT sqlhttp.matches('transaction.' || sqlhttp.here() || substr(signed, 65), left(signed, 64)) THEN
        RAISE EXCEPTION 'the claims are not those that the gateway set in this transaction' USING ERRCODE = '42501';
    END IF;
    RETURN substr(signed, 65)::jsonb;
END $$""",
    """CREATE OR REPLACE FUNCTION auth.session() RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
SELECT sqlhttp.claims()
$$""",
    """CREATE OR REPLACE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
SELECT sqlhttp.claims()
$$""",
    """CREATE OR REPLACE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
SELECT sqlhttp.claims() OPERATOR(pg_catalog.->>) 'role'::pg_catalog.text
$$""",
    """CREATE OR REPLACE FUNCTION auth.user_id() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
SELECT sqlhttp.claims() OPERATOR(pg_catalog.->>) 'sub'::pg_catalog.text
$$""",
    """CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED AS $$
SELECT (sqlhttp.claims() OPERATOR(pg_catalog.->>) 'sub'::pg_catalog.text)::pg_catalog.uuid
$$""",
    "REVOKE ALL ON FUNCTION sqlhttp.here(), sqlhttp.begin_claims(text), sqlhttp.claims() FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION sqlhttp.begin_claims(text), sqlhttp.claims() TO PUBLIC",
    "GRANT USAGE ON SCHEMA sqlhttp, auth TO PUBLIC",
)
"""What `sqlhttp auth install` runs, in order. Running it again changes nothing."""

FOREIGN = (
    "SELECT 'schema ' || n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner"
    " WHERE n.nspname IN ('sqlhttp', 'auth') AND NOT r.rolsuper AND r.rolname <> current_user"
    " UNION ALL SELECT c.oid::regclass::text FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner"
    " WHERE n.nspname = 'sqlhttp' AND c.relname = 'claims_secret'"
    " AND (c.relkind <> 'r' OR (NOT r.rolsuper AND r.rolname <> current_user))"
    " UNION ALL SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc p"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = p.proowner"
    " WHERE (n.nspname = 'sqlhttp' AND NOT r.rolsuper AND r.rolname <> current_user) OR (n.nspname = 'auth'"
    " AND p.proname IN ('user_id', 'session', 'uid', 'jwt', 'role')"
    " AND (pg_catalog.strpos(p.prosrc, 'sqlhttp.claims()') = 0"
    " OR (NOT r.rolsuper AND r.rolname <> current_user)))"  # CREATE OR REPLACE would leave it to them
)
"""What stands where ours should stand and is somebody else's: another package's functions, or a trap."""
IS_INSTALLED = (
    "SELECT pg_catalog.to_regclass('sqlhttp.claims_secret') IS NOT NULL"
    " AND pg_catalog.to_regprocedure('sqlhttp.begin_claims(text)') IS NOT NULL"
)
READ_SECRET = "SELECT pg_catalog.encode(inner_pad, 'hex') FROM sqlhttp.claims_secret"
"""In hex whatever `bytea_output` the role or the database has."""
KEEP_SECRET = (
    "INSERT INTO sqlhttp.claims_secret (inner_pad, outer_pad)"
    " VALUES (pg_catalog.decode($1, 'hex'), pg_catalog.decode($2, 'hex')) ON CONFLICT (is_one) DO NOTHING"
)
REPLACE_SECRET = (
    "UPDATE sqlhttp.claims_secret"
    " SET inner_pad = pg_catalog.decode($1, 'hex'), outer_pad = pg_catalog.decode($2, 'hex')"
)
_BEGIN = "SELECT sqlhttp.begin_claims($1)"
_PLAIN = "SELECT pg_catalog.set_config('request.jwt.claims', $1, true)"
_SET_ROLE = "SELECT pg_catalog.set_config('role', $1, true)"
NO_ROLE = "none"
"""What SET ROLE takes for the role that logged in; no role can be called so."""


def pads(secret: bytes) -> tuple[bytes, bytes]:
    """A secret as HMAC's inner and outer key, padded to a block."""
    padded = secret.ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)


def secret_from_pad(inner: bytes) -> bytes:
    """The secret of an inner key."""
    return bytes(byte ^ 0x36 for byte in inner)[:SECRET_BYTES]


def signed_claims(claims: bytes, *, secret: bytes, pid: int, now: float) -> Statement:
    """The statement that gives a transaction its claims; good on the backend `pid`, and around `now`, in Unix time."""
    message = b"%d.%d.%b" % (pid, round(now * 1_000_000), claims)
    mac = hmac.new(secret, b"request." + message, hashlib.sha256).hexdigest()
    return Statement(_BEGIN, (mac.encode() + message,))


def plain_claims(claims: bytes) -> Statement:
    """The same as PostgREST and Supabase have it: a setting that whoever can send SQL can set."""
    return Statement(_PLAIN, (claims,))


def local_role(role: str) -> Statement:
    """SET LOCAL ROLE, as PostgREST's authenticator becomes its caller's role; whoever can send SQL can leave it."""
    return Statement(_SET_ROLE, (role.encode(),))
