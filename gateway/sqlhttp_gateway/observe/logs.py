"""Log lines, on stderr: one line a request at most, for people or for collectors.

A line is made from an Event, and an Event never holds a password, a parameter or a connection string. A Postgres error
is logged by its SQLSTATE alone, since its text may quote a parameter.
"""

import logging
import sys
from datetime import UTC, datetime

import orjson

from sqlhttp_gateway.events import AlertChanged, Answered, Bug, Cancelled, Closed, Event, Leaked, Observer, Opened
from sqlhttp_gateway.settings import LogSettings

NAME = "sqlhttp"
_LOG = logging.getLogger(NAME)
_QUOTING_KIND = "postgres"


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z info request answered status=200 …`"""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{name}={_word(value)}" for name, value in _fields(record).items())
        line = f"{_moment(record)} {record.levelname.lower()} {record.getMessage()} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _moment(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry | _fields(record), default=str).decode()


def configure_logging(settings: LogSettings) -> None:
    """Send the log to stderr as `settings` say. To be called once, by whoever owns the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def log_observer(settings: LogSettings) -> Observer:
    """An observer that logs what `settings.requests` asks for."""
    wants_all = settings.requests == "all"
    wants_errors = settings.requests != "off"

    def observe(event: Event) -> None:
        match event:
            case Answered():
                if wants_all or (wants_errors and event.outcome != "ok"):
                    _log_answer(event)
            case Opened():
                _LOG.debug("connection opened", extra=_extra(pool=event.pool, seconds=round(event.seconds, 6)))
            case Closed():
                _LOG.debug("connection closed", extra=_extra(pool=event.pool, reason=event.reason))
            case Cancelled():
                _LOG.debug("statement cancelled", extra=_extra(pool=event.pool, confirmed=event.confirmed))
            case Leaked():
                _LOG.error("lease leaked", extra=_extra(pool=event.pool))
            case AlertChanged():
                _log_alert(event)
            case Bug():
                _LOG.error("bug\n%s", event.traceback.rstrip(), extra=_extra(request_id=event.request_id))

    return observe


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
    if event.outcome != "ok":
        fields["sqlstate"] = event.sqlstate
        if event.outcome != _QUOTING_KIND:
            fields["error"] = event.message
    _LOG.log(level, "request answered", extra=_extra(**fields))


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


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() or char == '"' for char in text) else text
