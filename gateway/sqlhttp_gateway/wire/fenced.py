"""What a program sends that may run nothing outside a `Fence`: as in `requests`, with the fence asked each time.

Names of statements hold across backends here even in session pooling, since every text has to be known.
"""

from sqlhttp_gateway.wire import owed
from sqlhttp_gateway.wire.cutting import CLOSE, WAIT, Edit, Wait
from sqlhttp_gateway.wire.effects import NO_EFFECTS, effects_of
from sqlhttp_gateway.wire.fence import Fence
from sqlhttp_gateway.wire.frontend import DESCRIBE_PORTAL, EXECUTE, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Entry, Kind, Look, Owed
from sqlhttp_gateway.wire.prepared import Undo
from sqlhttp_gateway.wire.requests import Requests, Texts, both, string_end


class FencedRequests(Requests):
    """One program's messages, within its fence."""

    def __init__(
        self,
        fence: Fence,
        *,
        waiting: Owed,
        names: Naming,
        texts: Texts,
        to_backend: list[bytes],
        to_frontend: list[bytes],
        max_message: int,
    ) -> None:
        super().__init__(
            waiting=waiting,
            names=names,
            texts=texts,
            to_backend=to_backend,
            to_frontend=to_frontend,
            max_message=max_message,
            is_plain=False,
        )
        self._fence = fence

    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        if self._fence.is_waiting and self.has_backend:
            return WAIT
        return super()._edit(tag, data, position, following)

    def _pass_whole(self, data: bytes) -> bool:
        return False  # nothing passes unseen

    def _needs_none(self, tag: int, data: bytes, position: int, following: int) -> bool:
        return tag == CLOSE and super()._needs_none(tag, data, position, following)

    def _read_parse(self, data: bytes, position: int, following: int) -> Edit | Wait:
        name_end = string_end(data, position + 5, following)
        text = data[name_end + 1 : string_end(data, name_end + 1, following)]
        refused = self._fence.refused(text)
        if refused is not None:
            return refused, following
        return self._behind(self._fence.parse(text), super()._read_parse(data, position, following), position)

    def _read_bind(self, data: bytes, position: int, following: int) -> Edit | Wait:
        portal_end = string_end(data, position + 5, following)
        name_end = string_end(data, portal_end + 1, following)
        text = self._text_of(data[portal_end + 1 : name_end])
        first, refused = self._fence.bind(data[position + 5 : portal_end], text)
        if refused is not None:
            return refused, following
        return self._behind(first, super()._read_bind(data, position, following), position)

    def _read_describe(self, data: bytes, position: int, following: int) -> Edit | Wait:
        name = data[position + 6 : string_end(data, position + 6, following)]
        first = b""
        if data[position + 5 : position + 6] == b"S":
            first = self._fence.parse(self._text_of(name))
        elif (refused := self._fence.use(name)) is not None:
            return refused, following
        return self._behind(first, super()._read_describe(data, position, following), position)

    def _read_execute(self, data: bytes, position: int, following: int) -> Edit | Wait:
        portal = data[position + 5 : string_end(data, position + 5, following)]
        refused = self._fence.use(portal)
        if refused is not None:
            return refused, following
        effects = self._portals.get(portal, NO_EFFECTS)
        first, undo = b"", None
        if effects is not NO_EFFECTS:
            if self._texts.has_to_wait(effects):
                return WAIT
            first, undo = self._texts.run(effects)
        self._add_execute(both(undo, self._fence.execute(portal)))
        return (first, position) if first else None

    def _read_query(self, data: bytes, position: int, following: int) -> Edit | Wait:
        text = data[position + 5 : following - 1]
        effects = effects_of(text)
        parts: list[bytes] = []
        undo: Undo | None = None
        if effects is not NO_EFFECTS:
            if self._texts.has_to_wait(effects):
                return WAIT
            first, undo = self._texts.run(effects)
            parts.append(first)
        undo = both(undo, self._names.query())
        pieces = self._fence.query(text)
        for number, piece in enumerate(pieces, 1):
            refused = self._fence.refused(piece)
            if refused is not None:
                parts.append(refused)
                break
            parts.append(self._fence.bind(b"", piece)[0])
            parts.append(self._run(piece, undo if number == len(pieces) else None))
        parts.append(self._fence.sync())
        self._owed.add(owed.SYNC)
        self._names.program.batch_sent()
        return b"".join((*parts, SYNC)), following

    def _read_sync(self, data: bytes, position: int, following: int) -> Edit:
        # What comes before a Sync that ends a failed batch, Postgres passes over.
        first = b"" if self._owed.is_skipping else self._fence.sync()
        self._fence.is_waiting = True
        super()._read_sync(data, position, following)
        return (first, position) if first else None

    def _read_function_call(self, data: bytes, position: int, following: int) -> Edit:
        self._names.program.batch_sent()
        return self._fence.call(), following

    # ── inside ──

    def _text_of(self, name: bytes) -> bytes:
        prepared = self._names.program.get(name)
        return prepared.source.tail.partition(b"\0")[0] if prepared is not None else b""

    def _behind(self, first: bytes, edit: Edit | Wait, position: int) -> Edit | Wait:
        """`edit`, with `first` in front of it, or sent ahead where the message itself has to wait."""
        if not first:
            return edit
        if isinstance(edit, Wait):
            self._lesson = first + self._lesson
            return edit
        return (first + edit[0], edit[1]) if edit is not None else (first, position)

    def _run(self, text: bytes, undo: Undo | None) -> bytes:
        """One statement of a simple query, answered as if it were the whole of one."""

        def describe(parameters: bytes, columns: bytes | None) -> None:
            if columns is not None:
                self._replies.append(b"T" + (len(columns) + 4).to_bytes(4) + columns)

        self._names.unnamed_is_ours()
        for entry in (
            owed.OUR_PARSE,
            Entry(Kind.BIND, is_ours=True),
            Entry(Kind.DESCRIBE, is_ours=True, look=Look(describe)),
        ):
            self._owed.add(entry)
        self._add_execute(both(undo, self._fence.execute(b"")))
        return encode_parse(b"", text) + encode_bind(b"", ()) + DESCRIBE_PORTAL + EXECUTE

    def _add_execute(self, undo: Undo | None) -> None:
        self._owed.add(Entry(Kind.EXECUTE, undo=undo) if undo is not None else owed.EXECUTE)
