"""Log lines, on stderr: one line a request at most, for people or for collectors.

A line is made from an Event, and an Event never holds a password, a parameter or a connection string. A Postgres error
is logged by its SQLSTATE alone, since its text may quote a parameter, and a slow statement without its values.
"""

import json
import logging
from datetime import UTC, datetime

import orjson

from sqlhttp_gateway.events import (
    AlertChanged,
    Answered,
    Bug,
    Cancelled,
    CertificateLoaded,
    Closed,
    Event,
    Leaked,
    Opened,
    Paused,
    Reloaded,
    Slow,
    TargetChanged,
    TunnelClosed,
    Unsent,
)
from sqlhttp_gateway.neon.traceparent import trace_id
from sqlhttp_gateway.observe.fingerprint import fingerprint
from sqlhttp_gateway.observe.log_writer import LogWriter
from sqlhttp_gateway.observe.tracebacks import told
from sqlhttp_gateway.settings import LogSettings

NAME = "sqlhttp"
_LOG = logging.getLogger(NAME)
_QUOTING_KIND = "postgres"
_MOST_FINGERPRINTS = 5


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z info request answered status=200 …`"""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{name}={_word(value)}" for name, value in _fields(record).items())
        line = f"{_moment(record)} {record.levelname.lower()} {_message(record)} {pairs}".rstrip()
        error = _error(record)
        return line if error is None else f"{line}\n{told(error)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "message": _message(record),
        }
        error = _error(record)
        if error is not None:
            entry["exception"] = told(error)
        entry |= _fields(record)
        try:
            return orjson.dumps(entry, default=str).decode()
        except TypeError:  # text with a lone surrogate, from a file name or a traceback
            return json.dumps(entry, default=str)


def configure_logging(settings: LogSettings) -> None:
    """Send the log to stderr as `settings` say. To be called once, by whoever owns the process."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [LogWriter()]
    for each in before:
        if isinstance(each, LogWriter):
            each.close()
    reconfigure_logging(settings)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def reconfigure_logging(settings: LogSettings) -> None:
    """Go by these settings from the next line on. Waits for nothing: another writer would, for what is not written."""
    root = logging.getLogger()
    for each in root.handlers:
        if isinstance(each, LogWriter):
            each.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root.setLevel(settings.level.upper())


class LogLines:
    """An observer that logs what `settings.requests` asks for."""

    def __init__(self, settings: LogSettings) -> None:
        self.reconfigure(settings)

    def reconfigure(self, settings: LogSettings) -> None:
        """Log by these settings from the next event on."""
        self._wants_all = settings.requests == "all"
        self._wants_errors = settings.requests != "off"

    def __call__(self, event: Event) -> None:
        """Log it, if that is wanted."""
        match event:
            case Answered():
                if self._wants_all or (self._wants_errors and event.outcome != "ok"):
                    _log_answer(event)
            case Unsent():
                if self._wants_errors:
                    _log_unsent(event)
            case Opened():
                _LOG.debug("connection opened", extra=_extra(pool=event.pool, seconds=round(event.seconds, 6)))
            case Closed():
                _LOG.debug("connection closed", extra=_extra(pool=event.pool, reason=event.reason))
            case Paused():
                _LOG.info("paused" if event.is_paused else "resumed", extra=_extra(database=event.database or "all"))
            case TargetChanged():
                _log_target(event)
            case Cancelled():
                _LOG.debug("statement cancelled", extra=_extra(pool=event.pool, confirmed=event.confirmed))
            case Slow():
                _log_slow(event)
            case TunnelClosed():
                if self._wants_all or (self._wants_errors and event.outcome != "ok"):
                    _log_tunnel(event)
            case Leaked():
                _LOG.error("lease leaked", extra=_extra(pool=event.pool))
            case AlertChanged():
                _log_alert(event)
            case Reloaded():
                _log_reload(event)
            case CertificateLoaded():
                _log_certificate(event)
            case Bug():
                _LOG.error("bug\n%s", told(event.error), extra=_extra(request_id=event.request_id))


def _log_answer(event: Answered) -> None:
    level = logging.WARNING if event.status >= 500 else logging.INFO
    fields: dict[str, object] = {
        "request_id": event.request_id,
        "status": event.status,
        "outcome": event.outcome,
        "database": event.database,
        "role": event.role,
        "statements": event.statements,
        "rows": event.rows,
        "bytes": event.bytes_out,
        "seconds": round(event.seconds, 6),
        "waited": round(event.waited, 6),
    }
    if event.traceparent:
        fields["trace_id"] = trace_id(event.traceparent)
    if event.outcome != "ok":
        fields["sqlstate"] = event.sqlstate
        if event.outcome != _QUOTING_KIND:
            fields["error"] = event.message
    _LOG.log(level, "request answered", extra=_extra(**fields))


def _log_unsent(event: Unsent) -> None:
    fields: dict[str, object] = {"request_id": event.request_id} if event.request_id else {}
    _LOG.info("answer not taken", extra=_extra(**fields, peer=event.peer, error=event.message))


def _log_tunnel(event: TunnelClosed) -> None:
    fields: dict[str, object] = {
        "door": event.door,
        "outcome": event.outcome,
        "database": event.database,
        "role": event.role,
        "seconds": round(event.seconds, 6),
    }
    if event.outcome != "ok":
        fields["sqlstate"] = event.sqlstate
        if event.outcome != _QUOTING_KIND:
            fields["error"] = event.message
    _LOG.info("tunnel closed", extra=_extra(**fields))


def _log_reload(event: Reloaded) -> None:
    for fault in event.faults:
        _LOG.error("settings not reloaded, all stays as it was: %s", fault)
    if event.faults:
        return
    _LOG.info("settings reloaded", extra=_extra(changed=",".join(event.live) or "nothing"))
    if event.restart:
        _LOG.warning("changed settings that need a restart", extra=_extra(settings=",".join(event.restart)))


def _log_certificate(event: CertificateLoaded) -> None:
    expires = datetime.fromtimestamp(event.expires_at, UTC).isoformat()
    if event.fault:
        _LOG.error("certificate not reloaded, the last one stays", extra=_extra(expires=expires, error=event.fault))
    else:
        _LOG.info("certificate loaded", extra=_extra(expires=expires))


def _log_slow(event: Slow) -> None:
    prints = [fingerprint(text) for text in event.texts[:_MOST_FINGERPRINTS]]
    fields: dict[str, object] = {
        "request_id": event.request_id,
        "seconds": round(event.seconds, 6),
        "waited": round(event.waited, 6),
        "database": event.database,
        "role": event.role,
        "statements": len(event.texts),
        "fingerprint": ",".join(each.digest for each in prints),
        "statement": "; ".join(each.text for each in prints),
    }
    if event.traceparent:
        fields["trace_id"] = trace_id(event.traceparent)
    _LOG.warning("slow statement", extra=_extra(**fields))


def _log_target(event: TargetChanged) -> None:
    if event.is_up:
        _LOG.warning("target is back", extra=_extra(target=event.target, seconds=round(event.seconds, 3)))
    else:
        _LOG.error("target is down", extra=_extra(target=event.target, reason=event.reason))


def _log_alert(event: AlertChanged) -> None:
    if event.state == "over":
        level = logging.INFO
    else:
        level = logging.ERROR if event.severity == "critical" else logging.WARNING
    _LOG.log(level, f"alert {event.state}", extra=_extra(alert=event.name, severity=event.severity, reason=event.text))


def _extra(**fields: object) -> dict[str, object]:
    return {"fields": fields}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields


def _message(record: logging.LogRecord) -> str:
    """What is said; of asyncio's own the first line, since the others show futures with what failed in them."""
    text = record.getMessage()
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    text = str(value)
    # Names come from callers: one with a line's end or a terminal's escape in it must not pass for a log line.
    plain = text.isprintable() and not any(char.isspace() or char in "\"'=\\" for char in text)
    return text if text and plain else repr(text)
