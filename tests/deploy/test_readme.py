"""What deploy/README.md names is there."""

import re
from pathlib import Path

import pytest

from sqlhttp_gateway.settings import Settings
from sqlhttp_gateway.settings.section import Section

README = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
NAMED = sorted(set(re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?![\w.(])", README)))


def test_there_are_some() -> None:
    assert len(NAMED) > 60


@pytest.mark.parametrize("name", NAMED)
def test_setting_that_is_named_exists(name: str) -> None:
    section, _, leaf = name.partition(".")
    assert leaf in SECTIONS[section].model_fields
