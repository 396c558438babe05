"""What goes back over HTTP."""

import os
import re

from sqlhttp_gateway.errors import TargetOverloaded, WaitTimeout
from sqlhttp_gateway.reply import error_reply, new_request_id


def test_request_id_is_a_random_uuid() -> None:
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    for each in ids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each)


def test_forked_processes_have_ids_of_their_own() -> None:
    mine = {new_request_id() for _ in range(100)}
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(sink, "".join(new_request_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(sink)
    with os.fdopen(source) as told:
        text = told.read()
    theirs = {text[start : start + 36] for start in range(0, len(text), 36)}
    assert len(theirs) == 100
    assert not theirs & (mine | {new_request_id() for _ in range(100)})
    assert not {each[:18] for each in theirs} & {each[:18] for each in mine}


def test_error_that_knows_when_to_come_back_says_so_and_another_does_not() -> None:
    waited = error_reply(WaitTimeout("no connection within 5 s", retry_after=7), "id")
    assert dict(waited.headers)[b"retry-after"] == b"7"
    assert b"retry-after" not in dict(error_reply(WaitTimeout("no connection within 5 s"), "id").headers)
    full = error_reply(TargetOverloaded({"C": "53300", "M": "too many clients"}), "id")
    assert (full.status, dict(full.headers)[b"retry-after"]) == (503, b"1")
