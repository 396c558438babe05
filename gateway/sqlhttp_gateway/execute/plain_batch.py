"""Batches of plain statements, run on a lease whose holder does not wait: `execute` for most batches there are.

Their whole transaction and the scrub behind it go out in one write. What `execute` says of a batch is the rule. A batch
of which COMMIT has to be held back is not for here, nor one that begins in a way of its own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.outcome import may_be_stale, refused_to_bind, with_outcome
from sqlhttp_gateway.execute.texts import holds_commit, is_plain_text
from sqlhttp_gateway.model import Batch, Result
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import COMMIT, START
from sqlhttp_gateway.pools.several import Several
from sqlhttp_gateway.pools.statements import Prepared
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, SYNC, bind_head, encode_bind_by, encode_parse

_MOST = 100
"""Statements of a batch for here. What is done at once holds up everybody else; beside so many a task costs nothing."""
_AHEAD = 1
"""Results, and Parse messages, of START in front of the batch's own."""


class Parsing(NamedTuple):
    """A batch under way of which something is not foreseen."""

    exchange: Exchange
    prepared: Sequence[Prepared | None]
    """What each statement was prepared as before."""
    new: Sequence[tuple[str, bytes]] = ()
    """The texts that are parsed in this exchange, in order, and as what."""


Begun = Several | Parsing


def is_plain_batch(batch: Batch) -> bool:
    """Whether `start_batch` may run it, where nothing is to run in front of it and no pooler is in between."""
    if not 0 < len(batch.statements) <= _MOST:
        return False
    texts = {statement.text for statement in batch.statements}
    return all(map(is_plain_text, texts)) and not holds_commit(texts)


def start_batch(
    lease: Lease, batch: Batch, then: Callable[[], None], *, array_modes: Sequence[bool], limits: Limits
) -> Begun:
    """Begin with one that `is_plain_batch`; `then` is called at its end. The lease's backend is open.

    `array_modes` are what holds for each statement.
    """
    statements, asked = lease.backend.statements, batch.statements
    prepared, is_kept = statements.of_transaction([statement.text for statement in asked])
    count_names = not all(array_modes)
    reading = None if count_names and any(array_modes) else READINGS[not count_names, True]
    most, timeout = limits.max_bytes, limits.statement_timeout
    if not statements.closing and lease.backend.scrub_prepared:
        foreseen = [each for each in prepared if each is not None and each.foreseen is not None]
        if len(foreseen) == len(asked):
            lease.reused += len(asked)
            several = Several(lease, foreseen, then, max_bytes=most, count_names=count_names, reading=reading)
            several.begin(batch, timeout=timeout)
            return several
    frames = [statements.take_closing(), START]
    new: list[tuple[str, bytes]] = []
    heads: dict[str, bytes] = {}
    for statement, before in zip(asked, prepared, strict=True):
        text = statement.text
        head = before.bind_head if before is not None else heads.get(text)
        if head is None:
            name = statements.new_name(text) if is_kept else b""
            new.append((text, name))
            frames.append(encode_parse(name, text.encode()))
            head = bind_head(name)
            if name:  # the unnamed statement is another one the next time
                heads[text] = head
        frames.append(encode_bind_by(head, statement.params, DESCRIBE_AND_EXECUTE))
    frames += COMMIT, SYNC
    lease.parsed += len(new)
    lease.reused += len(asked) - len(new)
    exchange = Exchange(max_bytes=most, count_names=count_names)
    exchange.reading = reading
    parsing = Parsing(exchange, prepared, new)
    # Where the transaction fails the scrub fails, too, and a deep one follows.
    lease.start(b"".join(frames), exchange, then, timeout=timeout, scrub_behind=True, statements=len(asked))
    return parsing


def batch_results(lease: Lease, batch: Batch, begun: Begun, limits: Limits) -> list[Result] | None:
    """What has come of it; None when it is worth a second try on this or another connection, and nothing has stayed.

    Raises:
        GatewayError: as `execute`.
    """
    if isinstance(begun, Several):
        if begun.results is not None:
            return begun.results
        assert begun.exchange is not None
        begun = Parsing(begun.exchange, begun.prepared)
    exchange, prepared, new = begun
    statements, asked = lease.backend.statements, batch.statements
    for text, name in new[: max(0, exchange.parsed - _AHEAD)]:
        statements.add(text, name)
    if exchange.error is None:
        results = exchange.results[_AHEAD : _AHEAD + len(asked)]
        _foresee(prepared, results)
        return results
    refused = refused_to_bind(exchange, _held_before(batch, prepared))
    if refused is not None:
        statements.drop(asked[refused - _AHEAD].text)
        if may_be_stale(exchange, _AHEAD):
            return None
    if exchange.fatal_first:
        return None
    raise with_outcome(exchange, lease, limits, in_transaction=True)


def _held_before(batch: Batch, prepared: Sequence[Prepared | None]) -> list[bool]:
    """Of START and of each statement, whether it was prepared before it was bound, be it for one in front of it."""
    seen = {statement.text for statement, each in zip(batch.statements, prepared, strict=True) if each is not None}
    held = [False]
    for statement in batch.statements:
        held.append(statement.text in seen)
        seen.add(statement.text)
    return held


def _foresee(prepared: Sequence[Prepared | None], results: Sequence[Result]) -> None:
    """Have the next answers of what was prepared before compared with these."""
    for each, result in zip(prepared, results, strict=True):
        if each is not None and (each.foreseen is None or not each.foreseen.is_as(result)):
            each.foreseen = Foreseen.after(result)
