"""Neon's rules for POST /sql as literal requests and answers: routes, headers, bodies, results, batches, errors.

Where the gateway does better than Neon on purpose, the test says so. Values have a file of their own.
"""

import http.client
import re
import uuid
from typing import Any

import httpx
import pytest

from tests.support.program import RAW, Program

ERROR_KEYS = [
    "message", "code", "detail", "hint", "position", "internalPosition", "internalQuery", "severity", "where",
    "table", "column", "schema", "dataType", "constraint", "file", "line", "routine",
]  # fmt: skip
ONE = {"query": "SELECT 1 AS one"}


def field(name: str, type_id: int, size: int, *, table: int = 0, column: int = 0, modifier: int = -1) -> dict[str, Any]:
    """A member of "fields" as Neon writes it."""
    return {
        "name": name,
        "dataTypeID": type_id,
        "tableID": table,
        "columnID": column,
        "dataTypeSize": size,
        "dataTypeModifier": modifier,
        "format": "text",
    }


def refusal(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The body of an error that keeps all the rules of an error's body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["access-control-allow-origin"] == "*"
    body: dict[str, Any] = response.json()
    assert list(body) == ERROR_KEYS
    assert isinstance(body["message"], str)
    assert body["message"]
    assert isinstance(body["severity"], str), "Prisma's adapter takes an error without it for something else"
    assert all(value is None or isinstance(value, str) for value in body.values())
    return body


# ── routes and CORS ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sql"), ("PUT", "/sql"), ("DELETE", "/sql"), ("HEAD", "/sql"), ("PATCH", "/sql"), ("POST", "/sql/"),
        ("POST", "/"), ("GET", "/"), ("POST", "/SQL"), ("POST", "/v1/sql"), ("GET", "/v2"), ("OPTIONS", "/"),
        ("POST", "/sql/more"),
    ],
)  # fmt: skip
def test_other_paths_and_methods_are_told_that_the_query_is_not_supported(
    program: Program, method: str, path: str
) -> None:
    base = program.endpoint.removesuffix("/sql")
    response = httpx.request(method, base + path, trust_env=False)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in response.headers
    uuid.UUID(response.headers["neon-request-id"])
    if method != "HEAD":
        assert response.content == b'"query is not supported"'


def test_query_string_of_the_path_is_ignored(program: Program) -> None:
    headers = {"Neon-Connection-String": program.connection_string}
    response = httpx.post(f"{program.endpoint}?a=b&c", json=ONE, headers=headers, trust_env=False)
    assert response.json()["rows"] == [{"one": 1}]


def test_preflight_allows_every_header_that_the_drivers_send(program: Program) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    response = httpx.options(program.endpoint, headers=asked, trust_env=False)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["allow"] == "OPTIONS, POST, QUERY"
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-max-age"] == "86400"
    assert response.headers["access-control-allow-methods"] == "POST, QUERY"  # Neon, without QUERY, sends none
    assert "access-control-allow-credentials" not in response.headers
    allowed = {name.lower() for name in response.headers["access-control-allow-headers"].split(", ")}
    assert allowed >= {
        "authorization", "neon-connection-string", "neon-raw-text-output", "neon-array-mode", "neon-pool-opt-in",
        "neon-batch-read-only", "neon-batch-isolation-level",
        "neon-batch-deferrable", "content-type",  # both missing from Neon's own list
    }  # fmt: skip


@pytest.mark.parametrize("content_type", ["application/json", "text/plain;charset=UTF-8", "application/sql", None])
def test_content_type_is_not_looked_at(program: Program, content_type: str | None) -> None:
    assert program.post(ONE, {"Content-Type": content_type}).json()["rows"] == [{"one": 1}]


def test_success_is_one_whole_json_body(program: Program) -> None:
    response = program.post(ONE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["access-control-allow-origin"] == "*"
    assert int(response.headers["content-length"]) == len(response.content)
    assert "transfer-encoding" not in response.headers
    assert "content-encoding" not in response.headers


def test_every_response_has_its_own_request_id(program: Program) -> None:
    responses = [program.post(ONE), program.post(ONE), program.post(b"{"), program.post({"query": "x"})]
    ids = {uuid.UUID(response.headers["neon-request-id"]) for response in responses}
    assert len(ids) == 4


def test_header_names_have_no_case(program: Program) -> None:
    headers = {"Neon-Connection-String": None, "nEoN-cOnNeCtIoN-sTrInG": program.connection_string}
    assert program.post(ONE, headers).json()["rows"] == [{"one": 1}]


# ── the connection string ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("connection_string", "message"),
    [
        (None, "invalid header: neon-connection-string"),
        ("", "invalid header: neon-connection-string"),
        ("mysql://u:p@h/d", "incorrect scheme"),
        ("https://u:p@h/d", "incorrect scheme"),
        ("postgres://u:p@h", "missing database name"),
        ("postgres://h/d", "missing username"),
        ("postgres://:p@h/d", "missing username"),
        ("postgres://u@h/d", "missing authentication credentials: required password"),
        ("postgres://u:@h/d", "missing authentication credentials: required password"),
    ],
)
def test_connection_string_that_cannot_be_used(program: Program, connection_string: str | None, message: str) -> None:
    response = program.post(ONE, {"Neon-Connection-String": connection_string})
    assert refusal(response)["message"] == message


@pytest.mark.parametrize("connection_string", ["not a url", "postgres://u:p@h:port/d", "postgres://u:p@h:99999/d"])
def test_connection_string_that_is_no_url(program: Program, connection_string: str) -> None:
    message = refusal(program.post(ONE, {"Neon-Connection-String": connection_string}))["message"]
    assert message.startswith("invalid connection string: ")


def test_connection_string_must_be_visible_ascii(program: Program) -> None:
    connection = http.client.HTTPConnection(program.endpoint.split("/")[2], timeout=30)
    try:
        connection.request(
            "POST", "/sql", b'{"query":"SELECT 1"}', {"Neon-Connection-String": b"postgres://\xfc:p@h/d"}
        )
        response = connection.getresponse()
        assert (response.status, b"invalid header: neon-connection-string" in response.read()) == (400, True)
    finally:
        connection.close()


def test_connection_string_never_appears_in_an_error(program: Program) -> None:
    for connection_string in (
        "postgres://u:s3cr3t@h:port/d",
        "postgres://u:s3cr3t@h/d",
        "s3cr3t",
        "mysql://s3cr3t@h/d",
    ):
        assert "s3cr3t" not in program.post(ONE, {"Neon-Connection-String": connection_string}).text


@pytest.mark.parametrize(
    "host", ["localhost", "ep-cool-dawn-123.eu-central-1.aws.neon.tech", "127.0.0.1", "[::1]", "db"]
)
def test_host_and_port_need_not_be_the_targets(program: Program, host: str) -> None:
    """`Pool.query` over HTTP loses the port, and host names are often made up."""
    _, _, rest = program.connection_string.partition("@")
    database = rest.partition("/")[2]
    url = f"postgresql://postgres:postgres@{host}/{database}?sslmode=require&channel_binding=require"
    assert program.post(ONE, {"Neon-Connection-String": url}).json()["rows"] == [{"one": 1}]


def test_only_the_first_segment_of_the_path_is_the_database(program: Program) -> None:
    url = program.connection_string + "/and/more"
    assert program.post(ONE, {"Neon-Connection-String": url}).json()["rows"] == [{"one": 1}]


def test_no_database_name_means_the_one_named_like_the_role(program: Program) -> None:
    url = program.connection_string.rpartition("/")[0] + "/"
    answer = program.post({"query": "SELECT current_database()::text AS d"}, {"Neon-Connection-String": url}).json()
    assert answer["rows"] == [{"d": "postgres"}]


def test_authorization_without_jwt_is_refused(program: Program) -> None:
    response = program.post(ONE, {"Authorization": "Bearer x.y.z"})
    assert refusal(response)["message"] == "missing authentication credentials: required password"


# ── the body of a request ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"SELECT 1", b"[]", b"1", b"null", b'"SELECT 1"', b"{}", b'{"params":[]}', b'{"query":1}',
        b'{"query":null}', b'{"query":"SELECT 1","params":null}', b'{"query":"SELECT 1","params":{}}',
        b'{"query":"SELECT 1","params":"x"}', b'{"query":"SELECT 1","arrayMode":"true"}',
        b'{"query":"SELECT 1","arrayMode":1}', b'{"query":"SELECT 1","query":"SELECT 2"}', b'{"queries":{}}',
        b'{"queries":null}', b'{"queries":["SELECT 1"]}', b'{"queries":[{"params":[]}]}',
        b'{"queries":[{"query":"SELECT 1","params":null}]}', b'{"query":"\xff"}', b'{"query":"\\ud800"}',
        b'{"query":"SELECT 1"} x', b'{"query":"SELECT $1","params":[NaN]}', b'{"query":"SELECT 1",}',
        b'\xef\xbb\xbf{"query":"SELECT 1"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_body_of_another_shape_is_refused(program: Program, body: bytes) -> None:
    message = refusal(program.post(body))["message"]
    assert message.startswith("could not parse the HTTP request body: ")


def test_empty_body_is_told_as_neon_tells_it(program: Program) -> None:
    message = "could not parse the HTTP request body: EOF while parsing a value at line 1 column 0"
    assert refusal(program.post(b""))["message"] == message


def test_members_that_are_not_known_are_passed_over(program: Program) -> None:
    body = {"x": {"query": 1}, "query": "SELECT $1::int AS v", "y": None, "params": [5], "arrayMode": None}
    assert program.post(body).json()["rows"] == [{"v": 5}]
    batch = {"more": 1, "queries": [{"query": "SELECT 1 AS v", "z": []}]}
    assert program.post(batch).json()["results"][0]["rows"] == [{"v": 1}]


def test_query_counts_when_queries_is_there_too(program: Program) -> None:
    assert program.post({"queries": [], "query": "SELECT 1 AS v"}).json()["rows"] == [{"v": 1}]


def test_body_that_says_it_is_too_large_is_refused(program: Program) -> None:
    response = program.post(b'{"query":"' + b" " * 10_485_760 + b'"}')
    assert refusal(response, 413)["message"] == "request is too large (max is 10485760 bytes)"


def test_body_in_chunks_that_grows_too_large_is_refused(program: Program) -> None:
    def chunks() -> Any:
        yield b'{"query":"'
        for _ in range(11):
            yield b" " * 1_048_576
        yield b'"}'

    headers = {"Neon-Connection-String": program.connection_string}
    response = httpx.post(program.endpoint, content=chunks(), headers=headers, trust_env=False)
    assert refusal(response, 413)["message"] == "request is too large (max is 10485760 bytes)"


def test_body_of_nearly_ten_megabytes_is_taken(program: Program) -> None:
    assert program.value("SELECT length($1)", "x" * 10_485_000) == 10_485_000


# ── the answer to one statement ──────────────────────────────────────────────────────────────────────────────────────


def test_answer_has_five_members_in_order(program: Program) -> None:
    assert program.post(ONE).content == (
        b'{"fields":[{"name":"one","dataTypeID":23,"tableID":0,"columnID":0,"dataTypeSize":4,"dataTypeModifier":-1,'
        b'"format":"text"}],"rows":[{"one":1}],"command":"SELECT","rowCount":1,"rowAsArray":false}'
    )


def test_raw_array_answer(program: Program) -> None:
    answer = program.ask("SELECT 1 AS a, NULL AS b, true AS c", headers=RAW)
    assert answer == {
        "fields": [field("a", 23, 4), field("b", 25, -1), field("c", 16, 1)],
        "rows": [["1", None, "t"]],
        "command": "SELECT",
        "rowCount": 1,
        "rowAsArray": True,
    }


def test_fields_of_a_table_are_true(program: Program) -> None:
    program.ask("CREATE TABLE told (gone int, id int8 PRIMARY KEY, v varchar(40), n numeric(8,2), t timestamptz(3))")
    program.ask("ALTER TABLE told DROP COLUMN gone")
    table = int(program.value("SELECT 'told'::regclass::oid"))
    assert program.ask("SELECT n, id, v AS w, t, n + 1 AS x FROM told")["fields"] == [
        field("n", 1700, -1, table=table, column=4, modifier=524294),
        field("id", 20, 8, table=table, column=2),
        field("w", 1043, -1, table=table, column=3, modifier=44),
        field("t", 1184, 8, table=table, column=5, modifier=3),
        field("x", 1700, -1),
    ]


@pytest.mark.parametrize(
    ("header", "own", "as_array"),
    [
        (None, None, False), ("true", None, True), (None, True, True), ("true", False, False), ("false", True, True),
        ("True", None, False), ("1", None, False), ("TRUE", None, False),
    ],
)  # fmt: skip
def test_array_mode_is_the_querys_own_word_or_else_the_headers(
    program: Program, header: str | None, own: bool | None, as_array: bool
) -> None:
    answer = program.post({**ONE, "arrayMode": own}, {"Neon-Array-Mode": header}).json()
    assert answer["rowAsArray"] is as_array
    assert answer["rows"] == ([[1]] if as_array else [{"one": 1}])


@pytest.mark.parametrize(("header", "value"), [(None, 1), ("true", "1"), ("True", 1), ("1", 1), ("false", 1)])
def test_raw_output_is_on_only_for_the_word_true(program: Program, header: str | None, value: object) -> None:
    assert program.post(ONE, {"Neon-Raw-Text-Output": header}).json()["rows"] == [{"one": value}]


def test_of_equal_names_the_last_one_wins_in_an_object(program: Program) -> None:
    assert program.ask("SELECT 1 AS a, 'x' AS b, 2 AS a")["rows"] == [{"a": 2, "b": "x"}]


@pytest.mark.parametrize(
    ("text", "command", "row_count"),
    [
        ("SELECT 1 UNION SELECT 2", "SELECT", 2),
        ("VALUES (1), (2), (3)", "SELECT", 3),
        ("TABLE pg_am LIMIT 0", "SELECT", 0),
        ("CREATE TEMP TABLE t AS SELECT 1", "SELECT", 1),
        ("CREATE TEMP TABLE t (i int)", "CREATE", None),
        ("SET work_mem = '1MB'", "SET", None),
        ("SHOW work_mem", "SHOW", None),
        ("DO 'BEGIN END'", "DO", None),
        ("EXPLAIN SELECT 1", "EXPLAIN", None),
        ("LISTEN x", "LISTEN", None),
        ("NOTIFY x", "NOTIFY", None),
        ("BEGIN", "BEGIN", None),
        ("START TRANSACTION", "START", None),
        ("COMMIT", "COMMIT", None),
        ("ROLLBACK", "ROLLBACK", None),
        ("DISCARD ALL", "DISCARD", None),
        ("VACUUM pg_am", "VACUUM", None),
        ("", "", None),
        (";", "", None),
        ("-- nothing\n/* at all */", "", None),
        ("SELECT 1;", "SELECT", 1),
        ("  SELECT 1 ;  ", "SELECT", 1),
    ],
)
def test_command_and_row_count_are_those_of_the_tag(
    program: Program, text: str, command: str, row_count: int | None
) -> None:
    answer = program.ask(text)
    assert (answer["command"], answer["rowCount"]) == (command, row_count)
    assert isinstance(answer["fields"], list)
    assert isinstance(answer["rows"], list)


def test_command_and_row_count_of_statements_that_write(program: Program) -> None:
    program.ask("CREATE TABLE written (i int PRIMARY KEY, t text)")
    for text, command, row_count, rows in [
        ("INSERT INTO written SELECT i FROM generate_series(1, 5) i", "INSERT", 5, []),
        ("UPDATE written SET t = 'x' WHERE i > 2", "UPDATE", 3, []),
        ("UPDATE written SET t = 'y' WHERE i > 4 RETURNING i", "UPDATE", 1, [{"i": 5}]),
        (
            "MERGE INTO written w USING (VALUES (1), (9)) v(i) ON w.i = v.i "
            "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.i)",
            "MERGE", 2, [],
        ),
        ("INSERT INTO written VALUES (10, 'z') RETURNING *", "INSERT", 1, [{"i": 10, "t": "z"}]),
        ("DELETE FROM written WHERE i = 77", "DELETE", 0, []),
        ("COPY (SELECT 1) TO '/dev/null'", "COPY", 1, []),
        ("TRUNCATE written", "TRUNCATE", None, []),
        ("DROP TABLE written", "DROP", None, []),
    ]:  # fmt: skip
        answer = program.ask(text)
        assert (answer["command"], answer["rowCount"], answer["rows"]) == (command, row_count, rows), text


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def batch(*texts: str) -> dict[str, Any]:
    return {"queries": [{"query": text} for text in texts]}


def test_batch_answers_each_statement_in_order(program: Program) -> None:
    body = {
        "queries": [
            {"query": "SELECT $1::int AS a", "params": [1]},
            {"query": "SELECT 'x' AS b", "arrayMode": True},
            {"query": "SELECT 1 WHERE false"},
            {"query": ""},
        ]
    }
    answer = program.post(body).json()
    assert list(answer) == ["results"]
    assert [result["rows"] for result in answer["results"]] == [[{"a": 1}], [["x"]], [], []]
    assert [list(result) for result in answer["results"]] == [
        ["fields", "rows", "command", "rowCount", "rowAsArray"]
    ] * 4
    assert [result["rowAsArray"] for result in answer["results"]] == [False, True, False, False]


def test_empty_batch_has_no_results(program: Program) -> None:
    response = program.post({"queries": []})
    assert (response.status_code, response.content) == (200, b'{"results":[]}')


def test_batch_is_one_transaction(program: Program) -> None:
    answer = program.post(batch(*["SELECT pg_current_xact_id()::text AS x"] * 3)).json()
    assert len({result["rows"][0]["x"] for result in answer["results"]}) == 1


def test_error_in_a_batch_undoes_all_of_it(program: Program) -> None:
    program.ask("CREATE TABLE undone (i int)")
    error = refusal(program.post(batch("INSERT INTO undone VALUES (1)", "SELECT 1/0", "INSERT INTO undone VALUES (2)")))
    assert (error["message"], error["code"]) == ("division by zero", "22012")
    assert program.value("SELECT count(*) FROM undone") == "0"


def test_deferred_constraint_that_fails_at_commit_is_told(program: Program) -> None:
    program.ask("CREATE TABLE parents (id int PRIMARY KEY)")
    program.ask("CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
    error = refusal(program.post(batch("INSERT INTO children VALUES (1)", "SELECT 1")))
    assert (error["code"], error["constraint"]) == ("23503", "children_parent_fkey")
    assert program.value("SELECT count(*) FROM children") == "0"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("ReadUncommitted", "read uncommitted"),
        ("ReadCommitted", "read committed"),
        ("RepeatableRead", "repeatable read"),
        ("Serializable", "serializable"),
        (None, "read committed"),
    ],
)
def test_isolation_level_of_a_batch(program: Program, header: str | None, shown: str) -> None:
    response = program.post(batch("SHOW transaction_isolation"), {"Neon-Batch-Isolation-Level": header})
    assert response.json()["results"][0]["rows"] == [{"transaction_isolation": shown}]
    assert response.headers.get("neon-batch-isolation-level") == header
    assert "neon-batch-read-only" not in response.headers
    assert "neon-batch-deferrable" not in response.headers


@pytest.mark.parametrize("level", ["serializable", "SERIALIZABLE", "Read Committed", "", "Snapshot"])
@pytest.mark.parametrize("body", [ONE, batch("SELECT 1")])
def test_isolation_level_spelled_otherwise_is_refused_for_single_statements_too(
    program: Program, level: str, body: object
) -> None:
    assert refusal(program.post(body, {"Neon-Batch-Isolation-Level": level}))["message"] == "invalid isolation level"


def test_read_only_and_deferrable_batches(program: Program) -> None:
    headers = {
        "Neon-Batch-Isolation-Level": "Serializable",
        "Neon-Batch-Read-Only": "true",
        "Neon-Batch-Deferrable": "true",
    }
    body = batch("SHOW transaction_isolation", "SHOW transaction_read_only", "SHOW transaction_deferrable")
    response = program.post(body, headers)
    shown = [next(iter(result["rows"][0].values())) for result in response.json()["results"]]
    assert shown == ["serializable", "on", "on"]
    assert {name: response.headers[name] for name in headers} == headers


@pytest.mark.parametrize("word", ["false", "True", "1"])
def test_read_only_and_deferrable_are_on_only_for_the_word_true(program: Program, word: str) -> None:
    headers = {"Neon-Batch-Read-Only": word, "Neon-Batch-Deferrable": word}
    response = program.post(batch("SHOW transaction_read_only", "SHOW transaction_deferrable"), headers)
    shown = [next(iter(result["rows"][0].values())) for result in response.json()["results"]]
    assert shown == ["off", "off"]
    assert "neon-batch-read-only" not in response.headers
    assert "neon-batch-deferrable" not in response.headers


def test_read_only_batch_may_not_write(program: Program) -> None:
    response = program.post(batch("CREATE TABLE forbidden (i int)"), {"Neon-Batch-Read-Only": "true"})
    assert refusal(response)["code"] == "25006"
    assert "neon-batch-read-only" not in response.headers, "an error echoes nothing"


def test_single_statement_echoes_no_batch_option(program: Program) -> None:
    response = program.post(ONE, {"Neon-Batch-Read-Only": "true", "Neon-Batch-Isolation-Level": "Serializable"})
    assert not [name for name in response.headers if name.startswith("neon-batch")]


def test_commit_in_a_batch_ends_its_transaction(program: Program) -> None:
    program.ask("CREATE TABLE halves (i int)")
    response = program.post(batch("INSERT INTO halves VALUES (1)", "COMMIT", "INSERT INTO halves VALUES (2)"))
    assert [result["command"] for result in response.json()["results"]] == ["INSERT", "COMMIT", "INSERT"]
    assert program.rows("SELECT i FROM halves ORDER BY i") == [[1], [2]]


def test_rollback_in_a_batch_ends_its_transaction(program: Program) -> None:
    program.ask("CREATE TABLE rests (i int)")
    response = program.post(batch("INSERT INTO rests VALUES (1)", "ROLLBACK", "INSERT INTO rests VALUES (2)"))
    assert response.status_code == 200
    assert program.rows("SELECT i FROM rests") == [[2]]


def test_begin_in_a_batch_is_only_a_warning(program: Program) -> None:
    response = program.post(batch("BEGIN", "SELECT 1 AS one"))
    assert [result["command"] for result in response.json()["results"]] == ["BEGIN", "SELECT"]


def test_savepoints_in_a_batch(program: Program) -> None:
    program.ask("CREATE TABLE saved (i int)")
    body = batch(
        "SAVEPOINT a", "INSERT INTO saved VALUES (1)", "ROLLBACK TO SAVEPOINT a", "INSERT INTO saved VALUES (2)",
        "RELEASE SAVEPOINT a",
    )  # fmt: skip
    assert program.post(body).status_code == 200
    assert program.rows("SELECT i FROM saved") == [[2]]


def test_set_in_a_batch_holds_for_the_rest_of_it_only(program: Program) -> None:
    body = batch("SET work_mem = '77MB'", "SHOW work_mem")
    assert program.post(body).json()["results"][1]["rows"] == [{"work_mem": "77MB"}]
    assert program.value("SHOW work_mem") != "77MB"


def test_table_made_and_used_in_one_batch(program: Program) -> None:
    body = batch("CREATE TABLE fresh (i int)", "INSERT INTO fresh VALUES (1) RETURNING i", "SELECT * FROM fresh")
    assert [result["rows"] for result in program.post(body).json()["results"]] == [[], [{"i": 1}], [{"i": 1}]]


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_error_of_postgres_is_passed_on_whole(program: Program) -> None:
    program.ask("CREATE TABLE strict (id int CONSTRAINT positive CHECK (id > 0), name text UNIQUE NOT NULL)")
    program.ask("INSERT INTO strict VALUES (1, 'a')")
    error = refusal(program.post({"query": "INSERT INTO strict VALUES (2, 'a')"}))
    assert re.fullmatch(r"\d+", error.pop("line"))
    assert error == {
        "message": 'duplicate key value violates unique constraint "strict_name_key"',
        "code": "23505",
        "detail": "Key (name)=(a) already exists.",
        "hint": None,
        "position": None,
        "internalPosition": None,
        "internalQuery": None,
        "severity": "ERROR",
        "where": None,
        "table": "strict",
        "column": None,
        "schema": "public",
        "dataType": None,
        "constraint": "strict_name_key",
        "file": "nbtinsert.c",
        "routine": "_bt_check_unique",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("selct 1", {"code": "42601", "position": "1", "message": 'syntax error at or near "selct"'}),
        ("SELECT nonsense", {"code": "42703", "position": "8"}),
        ("SELECT 'é☃🐘', nonsense", {"code": "42703", "position": "15"}),
        ("SELECT * FROM nowhere", {"code": "42P01", "position": "15", "message": 'relation "nowhere" does not exist'}),
        ("SELECT 'x'::int", {"code": "22P02", "position": "8"}),
        ("SELECT 1; SELECT 2", {"message": "cannot insert multiple commands into a prepared statement"}),
        ("SELECT 1; SELECT 2", {"code": "42601"}),
        ("SELECT to_number()", {"code": "42883", "hint": "*"}),
        ("DO $$ BEGIN EXECUTE 'SELECT nope'; END $$", {"code": "42703", "position": None, "where": "*"}),
        ("DO $$ BEGIN EXECUTE 'SELECT nope'; END $$", {"internalPosition": "8", "internalQuery": "SELECT nope"}),
        ("VACUUM nowhere", {"code": "42P01"}),
        ("SELECT set_config('work_mem', 'x', false)", {"code": "22023"}),
        ("CREATE DATABASE x TEMPLATE nowhere", {"code": "3D000"}),
    ],
)
def test_errors_are_in_postgres_words(program: Program, text: str, told: dict[str, str | None]) -> None:
    error = refusal(program.post({"query": text}))
    for key, value in told.items():
        assert error[key] == value or (value == "*" and error[key]), (key, error[key])


@pytest.mark.parametrize(
    ("text", "params", "message"),
    [
        ("SELECT $1::int", [], 'bind message supplies 0 parameters, but prepared statement "*" requires 1'),
        ("SELECT 1", [1], 'bind message supplies 1 parameters, but prepared statement "*" requires 0'),
        (
            "SELECT $1::int, $2::int, $3::int",
            [1, 2],
            'bind message supplies 2 parameters, but prepared statement "*" requires 3',
        ),
    ],
)
def test_wrong_number_of_parameters_is_postgres_own_error(
    program: Program, text: str, params: list[object], message: str
) -> None:
    for _ in range(3):  # new to the connection at first, prepared afterwards
        error = refusal(program.post({"query": text, "params": params}))
        assert error["code"] == "08P01"
        assert re.sub(r'"[^"]*"', '"*"', error["message"]) == message


def test_nul_in_a_query_is_refused(program: Program) -> None:
    refusal(program.post({"query": "SELECT 1 \0 DROP TABLE x"}))
    refusal(program.post(batch("SELECT 1", "SELECT '\0'")))


def test_nul_in_a_parameter_is_postgres_own_error(program: Program) -> None:
    assert refusal(program.post({"query": "SELECT $1::text", "params": ["a\0b"]}))["code"] == "22021"


@pytest.mark.parametrize(
    "text",
    [
        "COPY pg_am TO STDOUT",
        "COPY copied FROM STDIN",
    ],
)
def test_copy_over_the_wire_is_refused_and_the_next_statement_works(program: Program, text: str) -> None:
    program.ask("DROP TABLE IF EXISTS copied")
    program.ask("CREATE TABLE copied (i int)")
    assert refusal(program.post({"query": text}))["code"] == "0A000"
    refusal(program.post(batch("INSERT INTO copied VALUES (1)", text, "INSERT INTO copied VALUES (2)")))
    assert program.rows("SELECT * FROM copied") == []


def test_unknown_database_is_told_as_postgres_tells_it(program: Program) -> None:
    url = program.connection_string.rpartition("/")[0] + "/there_is_none"
    error = refusal(program.post(ONE, {"Neon-Connection-String": url}))
    assert (error["code"], error["severity"]) == ("3D000", "FATAL")
    assert error["message"] == 'database "there_is_none" does not exist'


@pytest.mark.parametrize("who", ["postgres:wrong", "nobody_here:wrong", "postgres:postgre", "postgres:postgress"])
def test_wrong_password_and_unknown_role_are_told_alike(program: Program, who: str) -> None:
    url = f"postgres://{who}@" + program.connection_string.partition("@")[2]
    error = refusal(program.post(ONE, {"Neon-Connection-String": url}))
    role = who.partition(":")[0]
    assert error["message"] == f'password authentication failed for user "{role}"'
    assert (error["code"], error["severity"]) == ("28P01", "FATAL"), "Prisma's adapter knows a failed log-in by these"
    assert {key for key, value in error.items() if value is not None} <= {"message", "code", "severity", "hint"}


def test_error_leaves_the_next_statement_alone(program: Program) -> None:
    for text in ("SELECT 1/0", "selct", "SELECT $1", "BEGIN", "COMMIT", "", "SELECT 'x'::int"):
        program.post({"query": text})
        assert program.rows("SELECT 1, pg_current_xact_id_if_assigned()::text") == [[1, None]]


def test_notices_are_not_told(program: Program) -> None:
    answer = program.ask("DO $$ BEGIN RAISE WARNING 'to nobody'; RAISE NOTICE 'either'; END $$")
    assert answer == {"fields": [], "rows": [], "command": "DO", "rowCount": None, "rowAsArray": False}
    rows = program.ask("SELECT i FROM (SELECT i, pg_notify('x', i::text) FROM generate_series(1, 3) i) s")["rows"]
    assert rows == [{"i": 1}, {"i": 2}, {"i": 3}]
