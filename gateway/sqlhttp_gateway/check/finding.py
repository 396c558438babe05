"""One thing that was found right or wrong, and how a list of them is shown: as text, as JSON, as an exit status."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` has the number that was found; `remedy` says what to do, and is empty where nothing is to be done."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


WIDTH = 100


def as_text(findings: Sequence[Finding]) -> str:
    """For people: one paragraph each, and a sum at the end."""
    wide = max((len(finding.subject) for finding in findings), default=0)
    indent = " " * (9 + wide + 2)
    lines = []
    for finding in findings:
        head = f"{finding.level:<8} {finding.subject:<{wide}}  "
        lines += textwrap.wrap(head + finding.text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
        if finding.remedy:
            lines += textwrap.wrap(
                finding.remedy,
                WIDTH,
                initial_indent=f"{indent}-> ",
                subsequent_indent=indent + "   ",
                break_on_hyphens=False,
                break_long_words=False,
            )
    return "\n".join([*lines, "", _sum(findings)])


def as_json(findings: Sequence[Finding], *, version: str) -> str:
    """For programs: one object; `ok` is whether there is no error."""
    shown = {"version": version, "ok": exit_status(findings) == 0, "findings": list(findings)}
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def exit_status(findings: Sequence[Finding]) -> int:
    """1 when something is an error, else 0: a warning is for people to weigh."""
    return int(any(finding.level is Level.ERROR for finding in findings))


def _sum(findings: Sequence[Finding]) -> str:
    counts = [(level, sum(finding.level is level for finding in findings)) for level in reversed(Level)]
    words = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "note", Level.OK: "right"}
    parts = [
        f"{number} {words[level]}{'s' if number > 1 and level is not Level.OK else ''}"
        for level, number in counts
        if number
    ]
    return ", ".join(parts) + "."
