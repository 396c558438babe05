"""A stand-in for Neon's extension pg_session_jwt, in plain SQL: the same names, and the same rules but for one.

What SQL cannot do is to verify an Ed25519 signature. Every token that was taken is therefore kept beside the key of
its connection, and `tokens` verifies them all afterwards; a token that `jwt_session_init` has not seen is believed by
nobody, as one with a bad signature is not by the extension.

Of the extension (0.3 to 0.5) it has: the key kept by the first `init`, whatever the setting becomes later; `jti` that
has to grow; the token in a setting of the session that anybody may set and that RESET ALL clears; functions that look
at it every time; NULL, or JSON's null, without a token; `request.jwt.claims` not looked at where there is a key.
"""

import json
from typing import Any

import jwt

from tests.support.cluster import Database

_SQL = """
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE TABLE auth.stand_in (
    pid int, since timestamptz, jwk text NOT NULL, jti bigint NOT NULL DEFAULT 0, token text, PRIMARY KEY (pid, since));
CREATE TABLE auth.taken (jwk text, token text);
CREATE FUNCTION auth.since() RETURNS timestamptz LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    'SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())';
CREATE FUNCTION auth.init() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO auth.stand_in VALUES (pg_backend_pid(), auth.since(), current_setting('pg_session_jwt.jwk'))
        ON CONFLICT DO NOTHING;
END $$;
CREATE FUNCTION auth.payload(token text) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS
    $$ SELECT convert_from(decode(rpad(translate(part, '-_', '+/'), (length(part) + 3) / 4 * 4, '='), 'base64'),
       'UTF8')::jsonb FROM split_part(token, '.', 2) part $$;
CREATE FUNCTION auth.take(given text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own auth.stand_in;
BEGIN
    SELECT * INTO own FROM auth.stand_in WHERE pid = pg_backend_pid() AND since = auth.since();
    IF own.pid IS NULL THEN
        RAISE EXCEPTION 'Missing runtime parameter: pg_session_jwt.jwk' USING ERRCODE = '02000';
    ELSIF own.token IS DISTINCT FROM given THEN
        IF (auth.payload(given)->>'jti')::bigint <= own.jti THEN
            RAISE EXCEPTION 'Token ID must be strictly monotonically increasing.' USING ERRCODE = '23514';
        END IF;
        UPDATE auth.stand_in SET jti = (auth.payload(given)->>'jti')::bigint, token = given
            WHERE pid = own.pid AND since = own.since;
        INSERT INTO auth.taken VALUES (own.jwk, given);
    END IF;
END $$;
CREATE FUNCTION auth.jwt_session_init(jwt text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('pg_session_jwt.jwt', jwt, false);
    PERFORM auth.take(jwt);
END $$;
CREATE FUNCTION auth.session() RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given text := nullif(current_setting('pg_session_jwt.jwt', true), '');
BEGIN
    IF given IS NULL THEN
        RETURN 'null';
    ELSIF NOT EXISTS (SELECT FROM auth.stand_in s
            WHERE s.pid = pg_backend_pid() AND s.since = auth.since() AND s.token = given) THEN
        RAISE EXCEPTION 'invalid JWT signature' USING ERRCODE = '23514';
    END IF;
    RETURN auth.payload(given);
END $$;
CREATE FUNCTION auth.user_id() RETURNS text LANGUAGE sql STABLE AS $$ SELECT auth.session()->>'sub' $$;
"""


def install_stand_in(database: Database) -> None:
    """As CREATE EXTENSION pg_session_jwt would, by a superuser."""
    database.psql(_SQL)


def tokens(database: Database) -> list[dict[str, Any]]:
    """The claims of every token that was taken, each verified with the key of its connection."""
    taken = json.loads(database.psql("SELECT json_agg(t) FROM auth.taken t") or "null") or []
    return [
        jwt.decode(each["token"], jwt.PyJWK.from_json(each["jwk"]), algorithms=["EdDSA"], options={"verify_jti": False})
        for each in taken
    ]
