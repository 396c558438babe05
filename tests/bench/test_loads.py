from tests.bench.loads import encode_request, lua_script


def test_a_request_is_whole_http() -> None:
    assert encode_request(b"{}", {"Accept": "*/*"}) == (
        b"POST /sql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_one_body_needs_no_function_in_wrk_and_several_do() -> None:
    assert "request = function" not in lua_script([b"{}"], {})
    assert "request = function" in lua_script([b"{}", b"[]"], {})


def test_bodies_and_headers_are_quoted_for_lua() -> None:
    script = lua_script([b'{"query": "select \\"a\\""}'], {"X": 'say "x"'})
    assert 'wrk.headers["X"] = "say \\"x\\""' in script
    assert 'wrk.body = "{\\"query\\": \\"select \\\\\\"a\\\\\\"\\"}"' in script
