"""What is written from the settings: the example file and the table in the gateway's README.

`python -m tests.support.documents` writes both; a test compares them with what `settings.py` says today.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sqlhttp_gateway.settings import Section, Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "sqlhttp.example.toml"
README = ROOT / "gateway" / "README.md"
BEGIN, END = "<!-- settings: written by `make docs` -->", "<!-- end of settings -->"

HEAD = """\
# Every setting of sqlhttp with its default: sqlhttp serve --config sqlhttp.toml
#
# Each can be given in the environment too, where it wins: SQLHTTP_POOL__MAX_SIZE=20 is max_size under [pool].
# A name that is no setting is refused.
"""


def example_file() -> str:
    """The text of deploy/sqlhttp.example.toml."""
    top = [name for name in Settings.model_fields if not _section(Settings.model_fields[name]) and name != "targets"]
    parts = [HEAD, *(_entry(name, Settings.model_fields[name]) for name in top)]
    for name, field in Settings.model_fields.items():
        if section := _section(field):
            parts.append(f"# {section.__doc__}\n[{name}]\n")
            parts += [_entry(key, value) for key, value in section.model_fields.items()]
    parts.append(_targets())
    return "\n".join(parts)


def settings_table() -> str:
    """The rows of the table in gateway/README.md."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in leaves():
        default = _toml(field.default) if not field.is_required() and field.default is not None else ""
        rows.append(
            f"| `{name}` | {f'`{default}`' if default else '–'} | {(field.description or '').replace('|', ',')} |"
        )
    return "\n".join(rows)


def leaves() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its dotted name; a target's own are `targets.NAME.…`."""
    for name, field in Settings.model_fields.items():
        if name == "targets":
            target = field.annotation.__args__[1]  # type: ignore[union-attr]  # dict[str, TargetSettings]
            yield from ((f"targets.NAME.{key}", value) for key, value in target.model_fields.items())
        elif section := _section(field):
            yield from ((f"{name}.{key}", value) for key, value in section.model_fields.items())
        else:
            yield name, field


def with_table(text: str) -> str:
    """The README with its table renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{settings_table()}\n\n{END}{after}"


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _entry(name: str, field: FieldInfo) -> str:
    """A comment and an assignment, which is itself a comment where there is no default."""
    assignment = f"{name} = {_toml(field.default)}" if field.default is not None else f'# {name} = "…"'
    return f"# {field.description}\n{assignment}\n"


def _targets() -> str:
    target = dict(Settings.model_fields["targets"].annotation.__args__[1].model_fields)  # type: ignore[union-attr]
    lines = [f"# {Settings.model_fields['targets'].description}", "# [targets.reports]"]
    for name, field in target.items():
        default = '"…"' if field.default in (None, PydanticUndefined) else _toml(field.default)
        lines += [f"# # {field.description}", f"# {name} = {default}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:_}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Write both."""
    EXAMPLE.parent.mkdir(exist_ok=True)
    EXAMPLE.write_text(example_file())
    README.write_text(with_table(README.read_text()))


if __name__ == "__main__":
    main()
