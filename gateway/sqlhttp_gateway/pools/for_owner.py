"""Tables that nobody but their owner may use: what ALTER DEFAULT PRIVILEGES gives others with each new one is taken.

A REVOKE from PUBLIC does not reach that, and `GRANT SELECT ON TABLES TO app` is in many a database. Roles that may read
everything, such as members of pg_read_all_data, still may.
"""


def only_for_owner(table: str) -> str:
    """The statement that takes every right to `table` from all others; `table` is one of our own, fit to stand in SQL
    as it is, with its schema."""
    return f"""DO $$
DECLARE
    other text;
BEGIN
    FOR other IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC'
            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
        FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
        WHERE c.oid = '{table}'::pg_catalog.regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE 'REVOKE ALL ON {table} FROM ' || other || ' CASCADE';
    END LOOP;
END $$"""
