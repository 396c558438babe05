"""The table of keys: its definition, and what is said to Postgres about a key.

A key is taken in the transaction of its write and given its answer in the same, so that Postgres keeps either all
three or none. Callers reach the table only through two functions, and a row only by an id that they cannot compute; so
nobody can read or plant another's answer, although both functions run in the callers' own sessions. Answers are read by
the gateway's role alone.

Waiting for a request in flight is waiting for its row: an INSERT of the same id stands in line behind it.
"""

from sqlhttp_gateway.idempotency.keys import TAG_BYTES
from sqlhttp_gateway.model import Statement
from sqlhttp_gateway.pools.for_owner import only_for_owner

ANSWERED = "SH001"
"""SQLSTATE of our own: the key has an answer."""
OTHER_REQUEST = "SH002"
"""The key belongs to another request."""
UNANSWERED = "SH003"
"""The key was taken by a request that ended its own transaction, so that there is no answer."""
OTHER_SECRET = "SH004"
"""The id was made with a secret that the table has no more: it was made anew, perhaps with the whole database, and by
another id the same key could be taken twice."""
_SAFE = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_PURGED = 4
"""Rows past their lifetime that go with every new answer: more than come, so that the table does not grow for ever."""
_SELDOM = 16
"""One answer in so many has as many times those removed where that is not free: in the stricter isolation levels."""


def _purge(rows: int) -> str:
    return f"""DELETE FROM sqlhttp.idempotency_keys AS k WHERE k.id IN (
            SELECT o.id FROM sqlhttp.idempotency_keys AS o WHERE o.expires_at < clock_timestamp()
            ORDER BY o.expires_at LIMIT {rows} FOR UPDATE SKIP LOCKED);"""


INSTALL = (
    "CREATE SCHEMA IF NOT EXISTS sqlhttp",
    "CREATE TABLE IF NOT EXISTS sqlhttp.idempotency_secret ("
    "is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one), secret bytea NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sqlhttp.idempotency_keys ("
    "id bytea PRIMARY KEY, fingerprint bytea NOT NULL, answer bytea, expires_at timestamptz NOT NULL)",
    "CREATE INDEX IF NOT EXISTS idempotency_keys_expiry ON sqlhttp.idempotency_keys (expires_at)",
    only_for_owner("sqlhttp.idempotency_secret"),
    only_for_owner("sqlhttp.idempotency_keys"),
    f"""CREATE OR REPLACE FUNCTION sqlhttp.begin_once(
    key_id bytea, body bytea, tag bytea, lifetime float8, patience int4)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT {_SAFE} AS $$
DECLARE
    before text := current_setting('lock_timeout');
    is_new boolean;
    known record;
BEGIN
    IF tag IS DISTINCT FROM (SELECT substr(sha256(s.secret), 1, {TAG_BYTES}) FROM sqlhttp.idempotency_secret AS s) THEN
        RAISE EXCEPTION 'the key was made with another secret' USING ERRCODE = '{OTHER_SECRET}';
    END IF;
    PERFORM set_config('lock_timeout', patience::text, true);
    INSERT INTO sqlhttp.idempotency_keys AS k (id, fingerprint, expires_at)
        VALUES (key_id, body, clock_timestamp() + make_interval(secs => lifetime))
        ON CONFLICT (id) DO UPDATE
            SET fingerprint = excluded.fingerprint, answer = NULL, expires_at = excluded.expires_at
            WHERE k.expires_at < clock_timestamp();
    is_new := FOUND;
    PERFORM set_config('lock_timeout', before, true);
    IF is_new THEN
        RETURN;
    END IF;
    SELECT k.fingerprint, k.answer IS NOT NULL AS is_answered INTO known
        FROM sqlhttp.idempotency_keys AS k WHERE k.id = key_id;
    IF known.fingerprint <> body THEN
        RAISE EXCEPTION 'the key belongs to another request' USING ERRCODE = '{OTHER_REQUEST}';
    ELSIF known.is_answered THEN
        RAISE EXCEPTION 'the key has its answer' USING ERRCODE = '{ANSWERED}';
    END IF;
    RAISE EXCEPTION 'the key has no answer' USING ERRCODE = '{UNANSWERED}';
END $$""",
    f"""CREATE OR REPLACE FUNCTION sqlhttp.keep_answer(key_id bytea, body bytea)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT {_SAFE} AS $$
BEGIN
    UPDATE sqlhttp.idempotency_keys AS k SET answer = body WHERE k.id = key_id AND k.answer IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the key was taken by no statement of this transaction' USING ERRCODE = '{UNANSWERED}';
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN
        {_purge(_PURGED)}
    -- Where that is not the database's default no other write may ever come.
    ELSIF get_byte(key_id, 0) < 256 / {_SELDOM} THEN
        BEGIN
            {_purge(_PURGED * _SELDOM)}
        EXCEPTION WHEN serialization_failure THEN
            NULL; -- somebody else has removed one of them since this transaction began
        END;
    END IF;
END $$""",
    "REVOKE ALL ON FUNCTION sqlhttp.begin_once(bytea, bytea, bytea, float8, int4), sqlhttp.keep_answer(bytea, bytea)"
    " FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION sqlhttp.begin_once(bytea, bytea, bytea, float8, int4), sqlhttp.keep_answer(bytea, bytea)"
    " TO PUBLIC",
    "GRANT USAGE ON SCHEMA sqlhttp TO PUBLIC",
)
"""What the gateway's role runs, in order, where the table is missing. Running it again changes nothing."""

FOREIGN = (
    "SELECT 'schema sqlhttp' FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner"
    " WHERE n.nspname = 'sqlhttp' AND NOT r.rolsuper AND r.rolname <> current_user"
    " UNION ALL SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class AS c"
    " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner"
    " WHERE n.nspname = 'sqlhttp' AND c.relname IN ('idempotency_keys', 'idempotency_secret')"
    " AND (c.relkind <> 'r' OR c.relhastriggers OR (NOT r.rolsuper AND r.rolname <> current_user))"
    " UNION ALL SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc AS p"
    " JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles AS r ON r.oid = p.proowner"
    " WHERE n.nspname = 'sqlhttp' AND p.proname IN ('begin_once', 'keep_answer')"
    " AND NOT r.rolsuper AND r.rolname <> current_user"
)
"""What stands where ours should stand and is somebody else's."""
IS_INSTALLED = (
    "SELECT pg_catalog.to_regprocedure('sqlhttp.begin_once(bytea,bytea,bytea,float8,int4)') IS NOT NULL"
    " AND pg_catalog.to_regprocedure('sqlhttp.keep_answer(bytea,bytea)') IS NOT NULL"
    " AND pg_catalog.to_regclass('sqlhttp.idempotency_secret') IS NOT NULL"
    " AND pg_catalog.to_regclass('sqlhttp.idempotency_keys') IS NOT NULL"
)
KEEP_SECRET = (
    "INSERT INTO sqlhttp.idempotency_secret (secret) VALUES (pg_catalog.decode($1, 'hex'))"
    " ON CONFLICT (is_one) DO NOTHING"
)
READ_SECRET = "SELECT pg_catalog.encode(secret, 'hex') FROM sqlhttp.idempotency_secret"
READ_ANSWER = (
    "SELECT pg_catalog.encode(answer, 'hex') FROM sqlhttp.idempotency_keys"
    " WHERE id = pg_catalog.decode($1, 'hex') AND fingerprint = pg_catalog.decode($2, 'hex') AND answer IS NOT NULL"
)


def taking(key_id: bytes, fingerprint: bytes, *, tag: bytes, lifetime: float, patience: float) -> Statement:
    """The statement that takes a key for `lifetime` seconds, after waiting `patience` seconds for another who has it.

    It fails with ANSWERED, OTHER_REQUEST or UNANSWERED when the key is taken, with OTHER_SECRET when `tag` is not that
    of the table's secret, and with 55P03 when the wait is over.
    """
    return Statement(
        "SELECT sqlhttp.begin_once($1, $2, $3, $4, $5)",
        (
            _bytea(key_id),
            _bytea(fingerprint),
            _bytea(tag),
            b"%f" % lifetime,
            b"%d" % max(1, round(patience * 1000)),  # 0 would be no limit at all
        ),
    )


def keeping(key_id: bytes, answer: bytes) -> Statement:
    """The statement that gives a key its answer."""
    return Statement("SELECT sqlhttp.keep_answer($1, $2)", (_bytea(key_id), _bytea(answer)))


def bytes_from_hex(value: bytes) -> bytes:
    """Bytes as `encode` writes them, which no `bytea_output` of a role or database changes."""
    return bytes.fromhex(value.decode())


def _bytea(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode()
