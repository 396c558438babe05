"""The audit: a line for each statement, with who and what, and no value unless it was asked for."""

import errno
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Literal

import orjson
import pytest

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Audited, Leaked
from sqlhttp_gateway.observe import audit
from sqlhttp_gateway.observe.audit import audit_observer
from sqlhttp_gateway.observe.relations import relations_of
from sqlhttp_gateway.settings import AuditSettings


def audited(*texts: str, rows: tuple[int, ...] = (), outcome: str = "ok", is_proven: bool = True) -> Audited:
    return Audited(
        request_id="r",
        tenant="jwt:mine:ann",
        target="default",
        database="main",
        role="app",
        is_proven=is_proven,
        outcome=outcome,
        sqlstate="" if outcome == "ok" else "42P01",
        seconds=0.0123456789,
        texts=texts,
        rows=rows,
        traceparent=f"00-{1:032x}-{2:016x}-01",
    )


def lines(event: Audited, statements: Literal["shapes", "texts"] = "shapes") -> list[dict[str, object]]:
    written: list[bytes] = []
    audit_observer(AuditSettings(statements=statements), write=written.append, clock=lambda: 0.0)(event)
    [data] = written  # all of a request in one write
    return [orjson.loads(line) for line in data.splitlines()]


def test_line_names_the_relations_of_its_own_statement() -> None:
    first, second = lines(audited("SELECT * FROM app.notes JOIN tags USING (id)", "DELETE FROM notes"))
    assert (first["relations"], second["relations"]) == (["app.notes", "tags"], ["notes"])


def test_line_says_who_ran_what_where_when_and_what_came_of_it() -> None:
    [line] = lines(audited("SELECT 1", rows=(1,)))
    digest = line.pop("fingerprint")
    assert isinstance(digest, str)
    assert line == {
        "time": "1970-01-01T00:00:00.000Z",
        "request_id": "r",
        "tenant": "jwt:mine:ann",
        "target": "default",
        "database": "main",
        "role": "app",
        "is_proven": True,
        "outcome": "ok",
        "sqlstate": "",
        "seconds": 0.012346,
        "trace_id": f"{1:032x}",
        "number": 1,
        "of": 1,
        "rows": 1,
        "relations": [],
        "statement": "select ?",
    }


def test_batch_has_a_line_for_each_statement() -> None:
    found = lines(audited("SELECT 1", "SELECT a", rows=(1, 7)))
    assert [(line["number"], line["of"], line["rows"]) for line in found] == [(1, 2, 1), (2, 2, 7)]


def test_request_of_whoever_was_not_proven_has_one_line_however_many_its_statements() -> None:
    [line] = lines(audited("SELECT 1", *["SELECT 2"] * 9999, outcome="auth", is_proven=False))
    assert (line["number"], line["of"], line["outcome"]) == (1, 10_000, "auth")


def test_many_long_statements_are_looked_at_in_part_and_no_name_is_cut() -> None:
    """A microsecond a character, for ten megabytes of them, would be ten seconds in which nobody is answered."""
    values = ", ".join(["(1)"] * 3000)
    text = f"INSERT INTO a_first VALUES {values}; TRUNCATE others"
    [alone] = lines(audited(text))
    assert alone["relations"] == ["a_first", "others"]
    looked_at = 0

    def counted(read: str) -> list[str]:
        nonlocal looked_at
        looked_at += len(read)
        return relations_of(read)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "relations_of", counted)
        found = lines(audited(*[text] * 500))
        assert all(line["relations"] == ["a_first"] for line in found)
        cut = f"SELECT {'a, ' * 60}a FROM what_goes_on_and_on, {'b, ' * 5000} c"
        assert {str(line["relations"]) for line in lines(audited(*[cut] * 1000))} == {"[]"}
    assert looked_at <= 400_000


def test_batch_that_failed_has_no_rows() -> None:
    found = lines(audited("SELECT 1", "SELECT a", outcome="postgres"))
    assert [(line["outcome"], line["sqlstate"], line["rows"]) for line in found] == [("postgres", "42P01", None)] * 2


def test_value_in_a_text_is_shown_only_if_texts_are_asked_for_and_the_sender_is_proven() -> None:
    text = "SELECT 'hunter2'"
    assert "hunter2" not in str(lines(audited(text)))
    assert lines(audited(text), "texts")[0]["statement"] == text
    assert "hunter2" not in str(lines(audited(text, is_proven=False), "texts"))


def test_text_cannot_forge_a_line() -> None:
    assert len(lines(audited('SELECT 1\n{"tenant":"bob"}\r\u2028'), "texts")) == 1


def test_lines_are_added_to_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    for _ in range(2):
        audit_observer(AuditSettings(statements="shapes", file=file))(audited("SELECT 1"))
    assert len(file.read_bytes().splitlines()) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_file_that_is_moved_away_has_a_new_one_behind_it(tmp_path: Path) -> None:
    """As logrotate does it; what it then removes must not take later lines along."""
    file, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    observe = audit_observer(AuditSettings(statements="shapes", file=file))
    observe(audited("SELECT a"))
    file.rename(moved)
    observe(audited("SELECT b"))
    observe(audited("SELECT c"))
    assert [len(each.read_bytes().splitlines()) for each in (moved, file)] == [1, 2]


def test_file_that_is_moved_away_goes_on_until_another_can_be_had(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "logs.1"
    folder.mkdir()
    observe = audit_observer(AuditSettings(statements="shapes", file=folder / "audit.jsonl"))
    folder.rename(moved)
    observe(audited("SELECT a"))
    folder.mkdir()
    observe(audited("SELECT b"))
    assert [len((each / "audit.jsonl").read_bytes().splitlines()) for each in (moved, folder)] == [1, 1]


def test_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"audit\.file"):
        audit_observer(AuditSettings(statements="shapes", file=tmp_path / "missing" / "audit.jsonl"))


def test_lines_that_are_lost_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    audit_observer(AuditSettings(statements="shapes"), write=full)(audited("SELECT 'hunter2'", "SELECT 2"))
    assert "2 lines are lost: No space left on device" in caplog.text
    assert "hunter2" not in caplog.text


def test_line_that_a_full_disk_cuts_off_is_lost_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "audit.jsonl"
    observe = audit_observer(AuditSettings(statements="shapes", file=file))
    room, real = [10_000, 20, 0, 10_000], os.write

    def write(descriptor: int, data: bytes) -> int:
        if not (most := room.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:most])

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        for text in ("SELECT 1", "INSERT INTO a VALUES (1)", "SELECT b"):
            observe(audited(text))
    first, cut, last = file.read_bytes().splitlines()
    assert (orjson.loads(first)["statement"], len(cut), orjson.loads(last)["statement"]) == ("select ?", 20, "select b")
    assert caplog.text.count("1 lines are lost: No space left on device") == 1


def test_stderr_that_nobody_reads_stops_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as output, open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        observe = audit_observer(AuditSettings(statements="shapes"))

        def tell() -> None:
            for _ in range(1_000):  # several times what a pipe holds
                observe(audited("SELECT 1", "SELECT 2"))

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(30)
        stopped = telling.is_alive()
        for number in range(2_000):
            assert orjson.loads(output.readline())["number"] == number % 2 + 1
        assert not stopped


def test_other_events_are_no_matter_of_the_audit() -> None:
    written: list[bytes] = []
    audit_observer(AuditSettings(statements="shapes"), write=written.append)(Leaked("p"))
    assert written == []
