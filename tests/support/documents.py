"""What is written from the source: the settings' example file, and tables in the gateway's README.

`make docs` writes them; tests compare them with what the source says today.
"""

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sqlhttp_gateway import errors
from sqlhttp_gateway.neon.headers import REQUEST_HEADERS, RESPONSE_HEADERS
from sqlhttp_gateway.observe import names
from sqlhttp_gateway.observe.families import snake
from sqlhttp_gateway.settings import Section, Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "sqlhttp.example.toml"
README = ROOT / "gateway" / "README.md"
PACKAGE = ROOT / "gateway" / "sqlhttp_gateway"

EXAMPLE_NAMES = {"targets": "reports", "tenants": "acme", "logins": "app", "keys": "0123456789ab", "issuers": "mine"}
"""A name in the place of the one that the user chooses."""

HEAD = """\
# Every setting of sqlhttp with its default: sqlhttp serve --config sqlhttp.toml
#
# Each can be given in the environment too, where it wins: SQLHTTP_POOL__MAX_SIZE=20 is max_size under [pool].
# A name that is no setting is refused.
"""


def example_file() -> str:
    """The text of deploy/sqlhttp.example.toml."""
    top = [name for name, field in Settings.model_fields.items() if not _section(field) and not _named(field)]
    parts = [HEAD, *(_entry(name, Settings.model_fields[name]) for name in top)]
    for name, field in Settings.model_fields.items():
        if section := _section(field):
            parts.append(f"# {section.__doc__}\n[{name}]\n")
            parts += [_entry(key, value) for key, value in section.model_fields.items()]
    parts += [_named_section(name, field) for name, field in Settings.model_fields.items() if _named(field)]
    return "\n".join(parts)


def settings_table() -> str:
    """The rows of the table in gateway/README.md."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in leaves():
        default = "" if field.is_required() or field.default is None else f"`{_toml(field.default)}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows)


def leaves() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its dotted name; a target's own are `targets.NAME.…`."""
    for name, field in Settings.model_fields.items():
        if named := _named(field):
            yield from ((f"{name}.NAME.{key}", value) for key, value in named.model_fields.items())
        elif section := _section(field):
            yield from ((f"{name}.{key}", value) for key, value in section.model_fields.items())
        else:
            yield name, field


def map_of_files() -> str:
    """Every file of the gateway with the first sentence it says of itself, floor by floor, ground floor first."""
    lines: list[str] = []
    for floor in reversed(floors()):
        lines += ["| | |", "| --- | --- |"] if not lines else []
        lines += [f"| **{' · '.join(floor)}** | |"]
        lines += [f"| `{path.relative_to(PACKAGE)}` | {first_sentence(path)} |" for path in _files(floor)]
    return "\n".join(lines)


def floors() -> list[list[str]]:
    """The layers of the import contract in pyproject.toml, top floor first; neighbours share one."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def first_sentence(path: Path) -> str:
    """Of the module's docstring, on one line."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    sentence, stop, _ = text.partition(". ")
    return (sentence + stop).strip().rstrip(".").replace("|", "\\|")


def metrics_table() -> str:
    """Every metric of the gateway's own, in the order of its list."""
    rows = ["| metric | labels | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{each.name}` | {', '.join(each.labels)} | {each.meaning} |" for each in names.ALL]
    return "\n".join(rows)


def headers_table() -> str:
    """What is read from a request, and what an answer carries."""
    rows = ["| header | of the | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | request | {meaning} |" for name, meaning in REQUEST_HEADERS.items()]
    rows += [f"| `{name}` | answer | {meaning} |" for name, meaning in RESPONSE_HEADERS.items()]
    return "\n".join(rows)


def errors_table() -> str:
    """Every error that the gateway itself has, by the word that metrics and logs use, in the order of the file."""
    rows = ["| reason | status | SQLSTATE | ran? | again? | when |", "| --- | --- | --- | --- | --- | --- |"]
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.GatewayError) and each is not errors.GatewayError:
            sqlstate = "Postgres's" if issubclass(each, errors.PostgresError) else f"`{each.sqlstate}`"
            again = "yes" if each.retryable else ""
            when = " ".join((each.__doc__ or "").split("\n\n")[0].split())
            ran = " or ".join(fates(each))
            rows.append(f"| `{snake(each.__name__)}` | {each.status} | {sqlstate} | {ran} | {again} | {when} |")
    return "\n".join(rows)


def fates(kind: type[errors.GatewayError]) -> list[str]:
    """What an error of this class can say of a write: one word, or one of several where it takes them from Postgres."""
    if not issubclass(kind, errors.PostgresError):
        return [kind.ran.value]
    told = ({"V": "ERROR", "C": "23505"}, {"V": "FATAL", "C": "57P01"})
    return list(dict.fromkeys(kind(fields).ran.value for fields in told))


def with_tables(text: str) -> str:
    """The README with what is written from the source renewed."""
    written = {
        "map": map_of_files(),
        "headers": headers_table(),
        "errors": errors_table(),
        "settings": settings_table(),
        "metrics": metrics_table(),
    }
    for name, content in written.items():
        text = _between(text, name, content)
    return text


def _between(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: written by make docs -->", f"<!-- end of {name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{README} has no place for {name}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _files(floor: list[str]) -> list[Path]:
    files = [PACKAGE / f"{name}.py" for name in floor if (PACKAGE / f"{name}.py").is_file()]
    for name in floor:
        files += sorted(path for path in (PACKAGE / name).glob("*.py") if path.name != "__init__.py")
    return files


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _entry(name: str, field: FieldInfo) -> str:
    """A comment and an assignment, which is itself a comment where there is no default."""
    example = _toml(field.examples[0]) if field.examples else '"…"'
    assignment = f"{name} = {_toml(field.default)}" if field.default is not None else f"# {name} = {example}"
    return f"# {field.description}\n{assignment}\n"


def _named(field: FieldInfo) -> type[Section] | None:
    """The section that stands under every name the user chooses, for a `dict[str, Section]`."""
    kinds: tuple[Any, ...] = getattr(field.annotation, "__args__", ())
    return kinds[1] if len(kinds) == 2 and isinstance(kinds[1], type) and issubclass(kinds[1], Section) else None


def _named_section(name: str, field: FieldInfo) -> str:
    section = _named(field)
    assert section is not None
    lines = [f"# {field.description}", f"# [{name}.{EXAMPLE_NAMES[name]}]"]
    for key, value in section.model_fields.items():
        if value.examples:
            example = _toml(value.examples[0])
        else:
            example = '"…"' if value.default in (None, PydanticUndefined) else _toml(value.default)
        prefix = "# # " if (value.json_schema_extra or {}).get("is_alternative") else "# "  # type: ignore[union-attr]
        lines += [f"# # {value.description}", f"{prefix}{key} = {example}"]
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
    README.write_text(with_tables(README.read_text()))


if __name__ == "__main__":
    main()
