"""Every setting is explained, and what is written from the settings is up to date."""

from pathlib import Path

import pytest

from sqlhttp_gateway.settings import Settings, load_settings
from tests.support import documents


@pytest.mark.parametrize("name", [name for name, _ in documents.leaves()])
def test_a_setting_has_a_description_with_a_full_stop(name: str) -> None:
    description = dict(documents.leaves())[name].description
    assert description
    assert description.endswith(".")


def test_every_section_says_what_it_is_about() -> None:
    for name, field in Settings.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            assert (field.annotation.__doc__ or "").strip(), name


def test_the_example_file_is_up_to_date() -> None:
    assert documents.EXAMPLE.read_text() == documents.example_file(), "run make docs"


def test_the_example_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(file=documents.EXAMPLE) == load_settings()


def test_the_example_file_with_every_comment_that_is_a_setting_taken_in_is_still_accepted(tmp_path: Path) -> None:
    lines = []
    for line in documents.example_file().splitlines():
        bare = line.removeprefix("# ")
        is_setting = bare.startswith(tuple(f"[{name}." for name in documents.EXAMPLE_NAMES)) or (
            bare.split(" = ")[0].isidentifier() and " = " in bare
        )
        url = "https://alerts.example" if "webhook" in bare else "postgres://app@db/app"
        lines.append(bare.replace("…", url) if is_setting else line)
    (tmp_path / "sqlhttp.toml").write_text("\n".join(lines))
    settings = load_settings(file=tmp_path / "sqlhttp.toml")
    assert settings.database_url is not None
    for section, name in documents.EXAMPLE_NAMES.items():
        assert name in getattr(settings, section)


def test_the_tables_of_the_gateways_readme_are_up_to_date() -> None:
    text = documents.README.read_text()
    assert text == documents.with_tables(text), "run make docs"
