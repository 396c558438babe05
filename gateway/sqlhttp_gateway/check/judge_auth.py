"""What the settings let callers do with who they are. Pure; what Postgres itself has to say is not known here."""

from collections.abc import Iterator

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.settings import Settings


def judge_auth(settings: Settings) -> Iterator[Finding]:
    """What is dangerous about keys, tokens and roles; nothing where there are none."""
    if settings.auth.claims == "plain" and settings.issuers:
        yield Finding(
            "claims",
            Level.WARNING,
            "Claims travel as request.jwt.claims for everybody (auth.claims is plain): whoever sends SQL can set that "
            "to another user's, and policies that read it are no wall.",
            "Set auth.claims to auto and run sqlhttp auth install; or list the statements.",
        )
    if settings.auth.set_role == "any":
        free = [
            f"{section}.{name}"
            for section, entries in (("keys", settings.keys), ("issuers", settings.issuers))
            for name, entry in entries.items()
            if entry.login is not None and entry.statements is None
        ]
        table = ["sqlhttp.api_keys"] if settings.auth.keys_table else []
        if free or table:
            yield Finding(
                "set role",
                Level.WARNING,
                f"Callers of {', '.join(free + table)} may send any SQL with a role that is only set (auth.set_role is "
                "any): RESET ROLE makes them the login, and SET ROLE every role that it is a member of.",
                "List their statements, or give each role a login of its own.",
            )
