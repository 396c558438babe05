"""Requests for a target that has several servers: what kind of server each needs, and so its route."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlhttp_gateway.cached import READING
from sqlhttp_gateway.errors import GatewayError, QueueFull, ShuttingDown, TargetUnavailable, WaitTimeout
from sqlhttp_gateway.execute.texts import is_plain
from sqlhttp_gateway.model import Batch, Bookmark, IsolationLevel, Options, Result, Statement
from sqlhttp_gateway.neon.bookmark import BOOKMARK, decode_bookmark
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.reads.verdicts import Verdicts
from sqlhttp_gateway.sql.access import Access, reads_only
from sqlhttp_gateway.sql.carrier import Carrier
from sqlhttp_gateway.story import Story


def bookmark_of(headers: Mapping[bytes, bytes]) -> Bookmark | None:
    """What the program has seen already of a target with several servers.

    Raises:
        BadRequest: the header cannot be read.
    """
    said = headers.get(BOOKMARK)
    return decode_bookmark(said) if said is not None else None


class Routed:
    """Gives accesses a route of the request's own."""

    def __init__(
        self, carrier: Carrier, *, registry: PoolRegistry, probes: Probes, verdicts: Verdicts | None = None
    ) -> None:
        """Without `verdicts` no statement is found to be reading that does not say so."""
        self._carrier = carrier
        self._registry = registry
        self._probes = probes
        self._verdicts = verdicts

    async def access(
        self,
        access: Access,
        headers: Mapping[bytes, bytes],
        request: Statement | Batch,
        options: Options,
        story: Story,
    ) -> Access:
        """The same access, by a route that the story knows of; to be closed when the request has ended.

        Raises:
            BadRequest: the bookmark cannot be read.
            WaitTimeout, QueueFull, ShuttingDown, TargetUnavailable: it depends on the primary, which is not to be had.
        """
        reads = reads_only(request, options, access.grant)
        is_found = not reads and await self._is_found_reading(access, request, story)
        story.route = route = Route(
            access.pool,
            registry=self._registry,
            probes=self._probes,
            reads=reads or is_found,
            is_found=is_found,
            bookmark=bookmark_of(headers),
            # What a standby does not have.
            needs_primary=options.transaction.isolation_level is IsolationLevel.SERIALIZABLE,
            is_repeatable=isinstance(request, Batch) or is_plain(request),
        )
        if not options.read_only:
            access = access.reading(lambda: route.reads)
        return replace(access, route=route)

    async def _is_found_reading(self, access: Access, request: Statement | Batch, story: Story) -> bool:
        """Whether a statement changes and locks nothing, by the plan that Postgres makes of it, if that is wanted."""
        group = access.pool.upstream.group
        if self._verdicts is None or group is None or not group.settings.selects or not isinstance(request, Statement):
            return False
        caller = access.caller
        key = (caller.target, caller.database, caller.pool.key.role, caller.role, request.text)
        verdict = self._verdicts.recall(key)
        if verdict is None:

            async def run(statements: Sequence[Statement]) -> list[Result]:
                return (await self._carrier.read(access, Batch(tuple(statements)), READING, story)).results

            try:
                verdict = await self._verdicts.ask(key, len(request.params), run)
            except (WaitTimeout, QueueFull, ShuttingDown, TargetUnavailable):
                raise  # it would need what was not to be had, and has waited for it as long as it may
            except GatewayError:
                return False  # the primary says what is wrong with it
        return verdict.is_reading
