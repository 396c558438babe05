"""What the settings say of who reaches the gateway, in which way, and whose word is taken. Pure, the clock included."""

from collections.abc import Iterator
from ipaddress import ip_network

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge import is_loopback
from sqlhttp_gateway.settings import ListenSettings, Settings

_EXPIRES_SOON = 14 * 86_400.0
"""Seconds; whoever renews by themselves has done so long before."""


def judge_addresses(settings: Settings, *, expires_at: float | None, fault: str, now: float) -> Iterator[Finding]:
    """`expires_at` is when the certificate ends, `fault` why there is one that cannot be used; `now` is Unix time."""
    listen = settings.listen
    yield _listening(settings, has_tls=expires_at is not None)
    if fault:
        yield Finding("certificate", Level.ERROR, f"{fault}.", "Correct listen.tls_certificate and listen.tls_key.")
    if expires_at is not None:
        yield _certificate(expires_at - now)
    if listen.postgres is not None and not is_loopback(listen.host):
        yield from _tcp_door(listen)
    yield from _proxies(listen)
    yield from _unix(listen)
    yield from _admin(settings)


def _listening(settings: Settings, *, has_tls: bool) -> Finding:
    listen = settings.listen
    if is_loopback(listen.host):
        return Finding("listening", Level.OK, f"On {listen.host}: only this machine reaches it.")
    where = f"On {listen.host}, other machines reach it"
    lets_in = f", from {', '.join(listen.allow_from)}" if listen.allow_from else ""
    proves = "passwords" + (", keys" if settings.keys or settings.auth.keys_table else "")
    proves += ", tokens" if settings.issuers else ""
    if has_tls and listen.https:
        return Finding("listening", Level.OK, f"{where}{lets_in}, over TLS, and prove themselves by {proves}.")
    if listen.trusted_proxies:
        return Finding(
            "listening",
            Level.NOTE,
            f"{where}{lets_in}, in plain text. That is well where only {', '.join(listen.trusted_proxies)} do.",
            "Let a firewall or listen.allow_from keep all others away.",
        )
    return Finding(
        "listening",
        Level.WARNING,
        f"{where}{lets_in}, and {proves} and rows travel in plain text.",
        "Set listen.tls_certificate, or put TLS in front (a load balancer, nginx) and name that in "
        "listen.trusted_proxies.",
    )


def _certificate(left: float) -> Finding:
    days = left / 86_400
    if left <= 0:
        text = f"The certificate has ended {-days:.0f} days ago: programs refuse it."
        return Finding("certificate", Level.ERROR, text, "Put a new one in its place; it is taken up by itself.")
    level = Level.OK if left > _EXPIRES_SOON else Level.WARNING
    remedy = "" if level is Level.OK else "Put a new one in its place; it is taken up by itself."
    return Finding("certificate", level, f"The certificate is good for {days:.0f} days.", remedy)


def _tcp_door(listen: ListenSettings) -> Iterator[Finding]:
    if listen.cleartext_password:
        yield Finding(
            "TCP door",
            Level.WARNING,
            f"Port {listen.postgres} takes passwords without TLS from other machines (listen.cleartext_password).",
            "Set listen.tls_certificate, and listen.cleartext_password to false.",
        )
    elif listen.tls_certificate is None:
        yield Finding(
            "TCP door",
            Level.WARNING,
            f"Port {listen.postgres} refuses whoever comes from another machine: there is no TLS to ask a password in.",
            "Set listen.tls_certificate.",
        )


def _proxies(listen: ListenSettings) -> Iterator[Finding]:
    everybody = [each for each in listen.trusted_proxies if each != "unix" and ip_network(each).prefixlen == 0]
    if everybody:
        yield Finding(
            "proxies",
            Level.ERROR,
            f"Everybody is believed what they say of their address (listen.trusted_proxies has {everybody[0]}): keys "
            "bound to addresses, allow-lists and the limits of wrong passwords hold nobody back.",
            "Name the addresses of the proxies themselves.",
        )
    elif listen.trusted_proxies:
        how = f"{listen.forwarded_header}, and the PROXY protocol on {', '.join(listen.proxy_protocol)}"
        how = how if listen.proxy_protocol else listen.forwarded_header
        yield Finding("proxies", Level.OK, f"{', '.join(listen.trusted_proxies)} say for whom they ask, by {how}.")


def _unix(listen: ListenSettings) -> Iterator[Finding]:
    has_socket = listen.unix_socket is not None or listen.postgres_socket_directory is not None
    if has_socket and int(listen.unix_socket_mode, 8) & 0o002:
        yield Finding(
            "Unix sockets",
            Level.NOTE,
            f"Every user of this machine may connect (listen.unix_socket_mode is {listen.unix_socket_mode}).",
            "0770 leaves it to the gateway's group.",
        )


def _admin(settings: Settings) -> Iterator[Finding]:
    admin = settings.admin
    everybody = [network for network in admin.allow_from if ip_network(network).prefixlen == 0]
    where = f"on {admin.host} port {admin.port}" if admin.port is not None else "on the public port"
    if not everybody:
        yield Finding("admin", Level.OK, f"/metrics and /status are {where}, for {', '.join(admin.allow_from)}.")
    elif admin.port is not None and is_loopback(admin.host):
        yield Finding("admin", Level.OK, f"/metrics and /status are {where}, for whoever is on this machine.")
    else:
        yield Finding(
            "admin",
            Level.WARNING,
            f"/metrics and /status are {where}, for everybody (admin.allow_from has {', '.join(everybody)}).",
            "Name the network of your Prometheus instead, or give them an address of their own (admin.port).",
        )
