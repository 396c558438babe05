"""The bytes that fuzzing found worth keeping, played again: none of them is a find."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FEWEST = 3
"""Seeds of a target: fewer, and atheris begins with nothing to change."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_is_read_or_refused(name: str) -> None:
    kept = sorted((CORPUS / name).iterdir())
    assert len(kept) >= FEWEST
    for each in kept:
        TARGETS[name](each.read_bytes())


def test_every_folder_of_the_corpus_is_a_targets() -> None:
    assert {each.name for each in CORPUS.iterdir()} == TARGETS.keys()
