"""Frames as a program writes them, and a model of the server they are meant for: small, exact about the protocol.

The model knows prepared statements, portals, transactions, COPY, parameters and the rule that after an error all is
passed over up to the next Sync. Its SQL is a handful of phrases. It answers at once what Postgres would hold back
until Flush or Sync; nobody may depend on that.
"""

import re
from struct import pack, unpack_from

SYNC = b"S\0\0\0\x04"
FLUSH = b"H\0\0\0\x04"
TERMINATE = b"X\0\0\0\x04"
COPY_DONE = b"c\0\0\0\x04"


def frame(tag: bytes, body: bytes = b"") -> bytes:
    return tag + pack("!I", len(body) + 4) + body


def query(text: str) -> bytes:
    return frame(b"Q", text.encode() + b"\0")


def parse(name: str, text: str) -> bytes:
    return frame(b"P", name.encode() + b"\0" + text.encode() + b"\0\0\0")


def bind(portal: str, statement: str, *params: str) -> bytes:
    values = b"".join(pack("!I", len(param)) + param for param in (text.encode() for text in params))
    return frame(
        b"B", portal.encode() + b"\0" + statement.encode() + b"\0\0\0" + pack("!H", len(params)) + values + b"\0\0"
    )


def describe(kind: str, name: str) -> bytes:
    return frame(b"D", kind.encode() + name.encode() + b"\0")


def execute(portal: str, max_rows: int = 0) -> bytes:
    return frame(b"E", portal.encode() + b"\0" + pack("!I", max_rows))


def close(kind: str, name: str) -> bytes:
    return frame(b"C", kind.encode() + name.encode() + b"\0")


def function_call(oid: int = 1) -> bytes:
    return frame(b"F", pack("!I", oid) + b"\0\0\0\0\0\0")


def copy_data(data: bytes) -> bytes:
    return frame(b"d", data)


def copy_fail(reason: str) -> bytes:
    return frame(b"f", reason.encode() + b"\0")


# What a server answers


def error(sqlstate: str, message: str) -> bytes:
    return frame(b"E", b"SERROR\0VERROR\0C%b\0M%b\0\0" % (sqlstate.encode(), message.encode()))


def row(*values: bytes | None) -> bytes:
    columns = (b"\xff\xff\xff\xff" if value is None else pack("!I", len(value)) + value for value in values)
    return frame(b"D", pack("!H", len(values)) + b"".join(columns))


def command_complete(tag: str) -> bytes:
    return frame(b"C", tag.encode() + b"\0")


def ready(status: str = "I") -> bytes:
    return frame(b"Z", status.encode())


def parameter_status(name: str, value: str) -> bytes:
    return frame(b"S", name.encode() + b"\0" + value.encode() + b"\0")


PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE = frame(b"1"), frame(b"2"), frame(b"3")
NO_DATA, EMPTY_QUERY, PORTAL_SUSPENDED = frame(b"n"), frame(b"I"), frame(b"s")
ROW_DESCRIPTION = frame(b"T", b"\0\x01x\0" + b"\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0")
NO_PARAMETERS = frame(b"t", b"\0\0")
COPY_IN = frame(b"G", b"\0\0\0")


class _Failure(Exception):
    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.frame = error(sqlstate, message)


class Server:
    """One backend. `receive` frames, read `take_answers`.

    Phrases: begin, commit, rollback, select X, rows N, fail, copy, set NAME to VALUE, reset NAME, show NAME,
    deallocate NAME, deallocate all, scrub, and the empty one; "syntax" cannot be parsed.
    """

    def __init__(self) -> None:
        self.statements: dict[bytes, bytes] = {}
        self.parameters: dict[str, bytes] = {}
        self._portals: dict[bytes, tuple[list[bytes], int]] = {}
        self._saved: dict[str, bytes] | None = None
        self._status = b"I"
        self._skips = False
        self._copy: int | None = None
        self._copy_is_simple = False
        self._out: list[bytes] = []
        self._in = b""

    @property
    def is_clean(self) -> bool:
        """Nothing of a session is open, and nothing is owed."""
        return self._status == b"I" and not self._portals and self._copy is None and not self._skips and not self._in

    def scrub(self) -> None:
        """RESET ALL and what else the pool does between two lessees."""
        self.parameters.clear()

    def take_answers(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes) -> None:
        self._in += data
        while len(self._in) >= 5:
            size = 1 + unpack_from("!I", self._in, 1)[0]
            if len(self._in) < size:
                return
            message, self._in = self._in[:size], self._in[size:]
            self._take(message[:1], message[5:])

    def _take(self, tag: bytes, body: bytes) -> None:
        if self._copy is not None:
            self._take_copy(tag, body)
            return
        if tag == b"S":
            self._skips = False
            self._ready()
        elif self._skips or tag in b"dcfH":
            return
        elif tag == b"Q":
            self._take_query(body[:-1])
        elif tag == b"F":
            self._attempt(lambda: self._out.append(frame(b"V", b"\xff\xff\xff\xff")))
            self._ready()
        else:
            action = {b"P": self._parse, b"B": self._bind, b"D": self._describe, b"E": self._execute, b"C": self._close}
            if not self._attempt(lambda: action[tag](body)):
                self._skips = True

    def _attempt(self, act) -> bool:  # type: ignore[no-untyped-def]
        try:
            act()
        except _Failure as failure:
            self._out.append(failure.frame)
            if self._status == b"T":
                self._status = b"E"
            elif self._status == b"I" and self._saved is not None:
                self.parameters, self._saved = self._saved, None
            return False
        return True

    def _ready(self) -> None:
        if self._status == b"I":
            self._portals.clear()
            self._saved = None
        self._out.append(ready(self._status.decode()))

    def _check(self, text: bytes) -> None:
        if self._status == b"E" and text not in (b"", b"commit", b"rollback"):
            raise _Failure("25P02", "current transaction is aborted")

    def _take_query(self, text: bytes) -> None:
        self.statements.pop(b"", None)
        self._portals.pop(b"", None)

        def run() -> None:
            if text == b"syntax":
                raise _Failure("42601", "syntax error")
            self._check(text)
            if text == b"copy":
                self._begin_copy(is_simple=True)
                return
            rows, tag = self._run(text, ())
            if tag == b"":
                self._out.append(EMPTY_QUERY)
                return
            if _has_rows(text):
                self._out.append(ROW_DESCRIPTION)
            self._out += rows
            self._out.append(command_complete(tag.decode()))

        self._attempt(run)
        if self._copy is None:
            self._ready()

    def _parse(self, body: bytes) -> None:
        name, text, _ = body.split(b"\0", 2)
        if not name:
            self.statements.pop(name, None)
        if text == b"syntax":
            raise _Failure("42601", "syntax error")
        self._check(text)
        if name in self.statements:
            raise _Failure("42P05", f'prepared statement "{name.decode()}" already exists')
        self.statements[name] = text
        self._out.append(PARSE_COMPLETE)

    def _statement(self, name: bytes) -> bytes:
        if name not in self.statements:
            what = f'prepared statement "{name.decode()}"' if name else "unnamed prepared statement"
            raise _Failure("26000", f"{what} does not exist")
        return self.statements[name]

    def _bind(self, body: bytes) -> None:
        portal, name, rest = body.split(b"\0", 2)
        text = self._statement(name)
        self._check(text)
        if portal and portal in self._portals:
            raise _Failure("42P03", f'portal "{portal.decode()}" already exists')
        count, values, at = unpack_from("!H", rest, 2)[0], [], 4
        for _ in range(count):
            size = unpack_from("!I", rest, at)[0]
            values.append(rest[at + 4 : at + 4 + size])
            at += 4 + size
        self._portals[portal] = ([text, *values], 0)
        self._out.append(BIND_COMPLETE)

    def _describe(self, body: bytes) -> None:
        name = body[1:-1]
        if body[:1] == b"S":
            text = self._statement(name)
            # Stricter than Postgres, which describes statements without rows in a failed transaction, too. No pool
            # can: a backend that has not got the statement cannot be taught it then.
            self._check(text)
            self._out.append(NO_PARAMETERS)
        else:
            text = self._portal(name)[0][0]
            self._check(text if _has_rows(text) else b"")
        self._out.append(ROW_DESCRIPTION if _has_rows(text) else NO_DATA)

    def _portal(self, name: bytes) -> tuple[list[bytes], int]:
        if name not in self._portals:
            raise _Failure("34000", f'portal "{name.decode()}" does not exist')
        return self._portals[name]

    def _execute(self, body: bytes) -> None:
        name, _, limit = body.partition(b"\0")
        (text, *values), done = self._portal(name)
        self._check(text)
        if text == b"copy":
            self._begin_copy(is_simple=False)
            return
        rows, tag = self._run(text, values)
        most = unpack_from("!I", limit)[0]
        if most and len(rows) - done > most:
            self._portals[name] = ([text, *values], done + most)
            self._out += [*rows[done : done + most], PORTAL_SUSPENDED]
            return
        self._out += rows[done:]
        self._out.append(command_complete(tag.decode()) if tag else EMPTY_QUERY)

    def _close(self, body: bytes) -> None:
        (self.statements if body[:1] == b"S" else self._portals).pop(body[1:-1], None)
        self._out.append(CLOSE_COMPLETE)

    def _run(self, text: bytes, values: object) -> tuple[list[bytes], bytes]:
        match text.split():
            case []:
                return [], b""
            case [b"begin"]:
                if self._status == b"I":
                    self._status, self._saved = b"T", dict(self.parameters)
                return [], b"BEGIN"
            case [b"commit" | b"rollback" as word]:
                if word == b"rollback" or self._status == b"E":
                    self.parameters, word = self._saved or self.parameters, b"rollback"
                self._status, self._saved = b"I", None
                self._portals.clear()
                return [], word.upper()
            case [b"select", value]:
                return [row(value)], b"SELECT 1"
            case [b"rows", count]:
                return [row(b"%d" % at) for at in range(int(count))], b"SELECT %b" % count
            case [b"fail"]:
                raise _Failure("22012", "division by zero")
            case [b"set", name, b"to", value]:
                self._save()
                self.parameters[name.decode()] = value
                return [], b"SET"
            case [b"reset", name]:
                self._save()
                self.parameters.pop(name.decode(), None)
                return [], b"RESET"
            case [b"scrub"]:
                self._save()
                self.parameters.clear()
                return [], b"SCRUB"
            case [b"show", name]:
                return [row(self.parameters.get(name.decode(), b""))], b"SHOW"
            case [b"deallocate", b"all"]:
                self.statements = {name: text for name, text in self.statements.items() if not name}
                return [], b"DEALLOCATE ALL"
            case [b"deallocate", name]:
                self._statement(name)
                del self.statements[name]
                return [], b"DEALLOCATE"
        return [self._ask(text, list(values))], b"SELECT 1"  # type: ignore[call-overload]

    def _save(self) -> None:
        if self._saved is None:
            self._saved = dict(self.parameters)

    def _ask(self, text: bytes, values: list[bytes]) -> bytes:
        """What the gateway itself asks: current_setting and set_config."""
        if b"set_config" in text:
            names = [name.decode() for name in values[::2]]
            self.parameters.update(zip(names, values[1::2], strict=True))
            return row(*values[1::2])
        names = [name.decode() for name in re.findall(rb"current_setting\(E'(\w+)'", text)]
        return row(*(self.parameters.get(name) for name in names))

    def _begin_copy(self, *, is_simple: bool) -> None:
        self._copy, self._copy_is_simple = 0, is_simple
        self._out.append(COPY_IN)

    def _take_copy(self, tag: bytes, body: bytes) -> None:
        assert self._copy is not None
        if tag == b"d":
            self._copy += 1
        elif tag in b"cf":
            count, self._copy = self._copy, None

            def end() -> None:
                if tag == b"f":
                    raise _Failure("57014", "COPY from stdin failed")
                self._out.append(command_complete(f"COPY {count}"))

            worked = self._attempt(end)
            if self._copy_is_simple:
                self._ready()
            else:
                self._skips = not worked
        else:
            assert tag in b"SH", f"unexpected {tag!r} during COPY"


def _has_rows(text: bytes) -> bool:
    return text.lower().startswith((b"select", b"rows", b"show"))
