"""What the settings let callers do with who they are. Pure; what Postgres itself has to say is not known here."""

from collections.abc import Iterator

from sqlhttp_gateway.check.facts import Facts
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.settings import Settings


def judge_logins(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """What a target's Postgres says of the roles that the gateway logs in as for keys and tokens, and of their claims.

    Keys and tokens of the gateway's own role need no login of their own.
    """
    shown = [(f"keys.{name}", each.target, {each.role}) for name, each in settings.keys.items()]
    shown += [(f"issuers.{name}", each.target, set(each.roles)) for name, each in settings.issuers.items()]
    mighty = [name for name, target, roles in shown if target == facts.target and roles & facts.superusers]
    logins = [each.role for each in settings.logins.values() if each.target == facts.target]
    held = sorted(facts.superusers.intersection(logins))
    if mighty or held:
        whose = f"{', '.join(mighty)}: " if mighty else ""
        roles = ", ".join(held) or "the role"
        yield Finding(
            "logins",
            Level.ERROR,
            f"{whose}{roles} is a superuser, whom no policy and no grant holds back; a key or token for it opens all.",
            "Make a role for each purpose, with the rights that it needs.",
        )
    wants_claims = any(each.target == facts.target for each in settings.issuers.values())
    if wants_claims and facts.has_claims is False and settings.auth.claims in {"auto", "signed"}:
        yield Finding(
            "claims",
            Level.WARNING,
            f"{facts.target}: the functions that believe a token's claims are not installed in its database, so that "
            "policies know nothing of who asks.",
            "Run sqlhttp check --install-auth, or sqlhttp auth install for another database.",
        )
    elif wants_claims and facts.has_claims:
        yield Finding("claims", Level.OK, f"{facts.target}: signed claims are believed (auth.user_id()).")


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
    plain = [name for name, issuer in settings.issuers.items() if (issuer.jwks_url or "").startswith("http:")]
    if plain:
        yield Finding(
            "issuers",
            Level.WARNING,
            f"The keys of {', '.join(plain)} come over http:// (auth.jwks_insecure): whoever is on the way can put in "
            "their own and be anybody.",
            "Use https:// but for tests on one machine.",
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
