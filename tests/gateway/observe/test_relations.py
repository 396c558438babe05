"""Which relations a statement names."""

import pytest

from sqlhttp_gateway.observe.relations import relations_of


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        ("SELECT * FROM Notes", ["notes"]),
        (
            'SELECT * FROM app.notes n JOIN "My Table" t USING (id) LEFT JOIN c ON c.id = t.id',
            ["app.notes", "My Table", "c"],
        ),
        (
            "SELECT * FROM a, b AS x, only c, LATERAL (SELECT * FROM d) y, generate_series(1, 2), e",
            ["a", "b", "c", "d", "e"],
        ),
        ("SELECT a, b FROM t WHERE x IN (SELECT y, z FROM u) ORDER BY a, b", ["t", "u"]),
        ("SELECT extract(epoch FROM now()), substring(a FROM 1), a IS DISTINCT FROM b FROM t", ["t"]),
        ("SELECT * FROM t FOR UPDATE OF t", ["t"]),
        ("SELECT 'from x' || $$ from y $$ /* from z */ -- from w\nFROM t", ["t"]),
        ("WITH x AS (SELECT * FROM a), y (i, j) AS NOT MATERIALIZED (TABLE b) SELECT * FROM x, y", ["a", "b"]),
        (
            "WITH x AS (DELETE FROM a USING b WHERE i = j RETURNING *) INSERT INTO c (i) SELECT i FROM x",
            ["a", "b", "c"],
        ),
        ("INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = excluded.b", ["t"]),
        ("INSERT INTO t(a) SELECT 1", ["t"]),
        ("UPDATE ONLY t SET a = u.a, b = 2 FROM u WHERE t.i = u.i", ["t", "u"]),
        ("DELETE FROM t", ["t"]),
        (
            "MERGE INTO t USING u ON i = j WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
            ["t", "u"],
        ),
        ("TRUNCATE a, b CASCADE", ["a", "b"]),
        ("TRUNCATE TABLE ONLY a", ["a"]),
        ("CREATE TABLE IF NOT EXISTS s.t (a int, b int)", ["s.t"]),
        ("ALTER TABLE t ADD COLUMN c int", ["t"]),
        ("DROP TABLE IF EXISTS t", ["t"]),
        ("COPY t (a, b) FROM STDIN", ["t"]),
        ("TABLE t", ["t"]),
        ("EXPLAIN SELECT * FROM t", ["t"]),
        ("SELECT * FROM t; DELETE FROM u", ["t", "u"]),
        ("SELECT * FROM t JOIN t ON true", ["t"]),
        ("SELECT * FROM", []),
        ("from from from", ["from"]),
        (")))((( FROM t", ["t"]),
        ("", []),
    ],
)
def test_relations_are_those_that_stand_behind_their_words(statement: str, expected: list[str]) -> None:
    assert relations_of(statement) == expected


def test_many_are_cut_and_a_long_text_is_not_read_to_its_end() -> None:
    assert len(relations_of("SELECT * FROM " + ", ".join(f"t{number}" for number in range(200)))) == 50
    assert relations_of("SELECT " + "1, " * 10_000 + "1 FROM t") == []
