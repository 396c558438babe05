"""What the settings themselves mean, whatever the database. Pure, but for the limit on open files of this process."""

from collections.abc import Iterator

from sqlhttp_gateway.check.capacity import products
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge_addresses import judge_addresses
from sqlhttp_gateway.check.judge_auth import judge_auth
from sqlhttp_gateway.descriptors import most_connections, needed
from sqlhttp_gateway.settings import Settings

_FEW_FILES = 4096


def judge_settings(
    settings: Settings, *, open_files: int, expires_at: float | None = None, fault: str = "", now: float = 0.0
) -> list[Finding]:
    """All findings; `open_files` is how many this process may have open, the others are as in `judge_addresses`."""
    return [
        products(settings),
        *judge_addresses(settings, expires_at=expires_at, fault=fault, now=now),
        *_statements(settings),
        *_memory(settings),
        *_files(settings, open_files),
        *_webhook(settings),
        *_audit(settings),
        *judge_auth(settings),
    ]


def _statements(settings: Settings) -> Iterator[Finding]:
    if not settings.statement.timeout:
        yield Finding(
            "statement timeout",
            Level.WARNING,
            "A statement may run for ever (statement.timeout is 0) and keep its connection from all others.",
            "Set statement.timeout to the longest that a program really waits.",
        )
    else:
        yield Finding("statement timeout", Level.OK, f"A statement is ended after {settings.statement.timeout:g} s.")


def _memory(settings: Settings) -> Iterator[Finding]:
    megabytes = settings.pool.max_total * settings.response.max_bytes / 1_000_000
    text = (
        f"Rows of {settings.pool.max_total} answers at once can take {megabytes:.0f} MB "
        "(pool.max_total x response.max_bytes), and about twice that while they are encoded."
    )
    yield Finding("memory", Level.NOTE, text)


def _files(settings: Settings, open_files: int) -> Iterator[Finding]:
    most = min(most_connections(settings, open_files), max(0, open_files - needed(settings)))
    text = f"A worker may have {open_files} open, one for each program that is connected: {most} can be."
    wanted = settings.listen.max_connections
    enough = needed(settings) + wanted if wanted is not None else _FEW_FILES
    if open_files < enough:
        remedy = f"Raise the limit (ulimit -n, LimitNOFILE) to {enough} or more."
        yield Finding("open files", Level.WARNING, text, remedy)
    else:
        yield Finding("open files", Level.OK, text)


def _audit(settings: Settings) -> Iterator[Finding]:
    if settings.audit.file is not None and settings.audit.statements == "off":
        text = "There is a file for it (audit.file), and nothing is written to it (audit.statements is off)."
        yield Finding("audit", Level.WARNING, text, "Set audit.statements to shapes or texts.")


def _webhook(settings: Settings) -> Iterator[Finding]:
    if settings.watch.webhook_url is not None and settings.watch.webhook_secret is None:
        yield Finding(
            "webhook",
            Level.NOTE,
            "Alerts are posted without a signature.",
            "Set watch.webhook_secret, if the receiver can check one.",
        )
