"""GET /metrics: everything that is counted and measured, for Prometheus, over all workers."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.endpoints.access import Access
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.observe.reporter import Reporter
from sqlhttp_gateway.settings import MetricsSettings


class Scrape:
    """Turns what is known into the text of a scrape."""

    def __init__(
        self, reporter: Reporter, access: Access, settings: MetricsSettings, *, pool_mode: Callable[[str, str], str]
    ) -> None:
        """`pool_mode` is that of a tunnel into this database as this role, who may be nobody."""
        self.access = access
        self._reporter = reporter
        self._settings = settings
        self._pool_mode = pool_mode
        self._version = build_version()

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, which depends on what is accepted."""
        report = self._reporter.whole()
        # Thousands of series take some milliseconds, in which requests should go on.
        return await asyncio.to_thread(self._text, report, accept)

    def _text(self, report: Report, accept: str) -> tuple[bytes, str]:
        # Prometheus's library takes a megabyte, which a gateway that nobody scrapes need not have. The first scrape
        # waits for it, in its thread, and no request does.
        from sqlhttp_gateway.observe.families import Families, exposition, put_report

        families = Families()
        max_labels = self._settings.max_labels
        put_report(families, report, version=self._version, max_labels=max_labels)
        if self._settings.pgbouncer:
            from sqlhttp_gateway.observe.pgbouncer import put_pgbouncer

            put_pgbouncer(
                families,
                report,
                version=self._version,
                max_labels=max_labels,
                pool_mode=lambda database: self._pool_mode(database, ""),
            )
        return exposition(families, accept)


async def metrics(request: Request) -> Response:
    """The scrape."""
    scrape: Scrape = request.state.scrape
    if (refusal := scrape.access.refusal(request)) is not None:
        return refusal
    text, content_type = await scrape.text(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})
