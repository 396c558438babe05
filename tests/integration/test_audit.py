"""The audit of a whole gateway: every statement of /sql has its line, whoever sent it and whatever came of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.program import Program
from tests.support.wire_program import logged_in


def test_every_statement_has_its_line(
    start_program: Callable[..., Program], database: Database, tmp_path: Path
) -> None:
    key, file = new_key(), tmp_path / "audit.jsonl"
    program = start_program(
        keys={key.id: {"hash": hash_of(key), "database": database.name, "role": "postgres", "read_only": True}},
        audit={"statements": "shapes", "file": str(file)},
    )
    program.rows("SELECT * FROM generate_series(1, $1::int)", 3)
    program.error("SELECT 'hunter2'::int")
    shown: Any = {"Neon-Connection-String": None, "Authorization": f"Bearer {key.text}"}
    program.post({"queries": [{"query": "SELECT 1"}, {"query": "SELECT 2"}]}, shown)
    program.post({"query": "COMMIT"}, shown)
    program.post({"query": "SELECT 1"}, {**shown, "Authorization": f"Bearer {new_key().text}"})
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [(line["tenant"], line["is_proven"], line["outcome"], line["sqlstate"], line["rows"]) for line in lines] == [
        ("postgres", True, "ok", "", 3),
        ("postgres", True, "postgres", "22P02", None),
        (f"key:{key.id}", True, "ok", "", 1),
        (f"key:{key.id}", True, "ok", "", 1),
        (f"key:{key.id}", True, "auth", "42501", None),
        ("", False, "auth", "28000", None),
    ]
    text = file.read_text()
    assert "hunter2" not in text
    assert key.text not in text


async def test_statements_of_a_tunnel_have_their_lines_too(
    start_gateway: Callable[..., Gateway], database: Database, tmp_path: Path
) -> None:
    key, file = new_key(), tmp_path / "audit.jsonl"
    gateway = start_gateway(
        keys={key.id: {"hash": hash_of(key), "database": database.name, "role": "postgres", "read_only": True}},
        audit={"statements": "shapes", "file": str(file)},
    )
    async with logged_in(gateway, database) as program:
        await program.query("SELECT 'hunter2'; SELECT * FROM generate_series(1, 3)")
        await program.ask("SELECT $1::int", "hunter2", name="s")
    async with logged_in(gateway, database.as_role("postgres", key.text)) as reader:
        await reader.query("BEGIN; SELECT 1")
        await reader.query("CREATE TABLE t ()")
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [
        (line["tenant"], line["statement"].lower(), line["outcome"], line["sqlstate"], line["rows"]) for line in lines
    ] == [
        ("postgres", "select ?", "ok", "", 1),
        ("postgres", "select * from generate_series(?)", "ok", "", 3),
        ("postgres", "select ?::int", "postgres", "22P02", None),
        (f"key:{key.id}", "begin", "ok", "", 0),
        (f"key:{key.id}", "select ?", "ok", "", 1),
        (f"key:{key.id}", "create table t()", "postgres", "25006", None),
    ]
    assert "hunter2" not in file.read_text()
