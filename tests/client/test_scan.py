"""What Postgres would see as a parameter, and what is quoted or a comment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp._scan import first_word, placeholders, tokens


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("select $1, $2", [1, 2]),
        ("select $12$3", [12, 3]),
        ("select $1::int[$2]", [1, 2]),
        ("select '$1', $2", [2]),
        ("select 'it''s $1', $2", [2]),
        ("select E'it\\'s $1', $2", [2]),
        ("select e'\\\\', $1", [1]),
        ("select '\\', $1", [1]),  # no escape in a plain string
        ('select "$1", $2', [2]),
        ('select "a""$1", $2', [2]),
        ("select $$ $1 $$, $2", [2]),
        ("select $tag$ $$ $1 $tag$, $2", [2]),
        ("select $1 -- $2\n, $3", [1, 3]),
        ("select $1 -- $2\r, $3", [1, 3]),
        ("select /* $1 /* $2 */ $3 */ $4", [4]),
        ("select foo$1, $2", [2]),  # a dollar sign may be part of a name
        ("select 1$1", [1]),
        ("select 'open $1", []),
        ("select $$ open $1", []),
        ("select /* open $1", []),
        ("select €$1", []),
        ("select a€x$1, $2", [2]),
        ("select $a€$ $1 $a€$, $2", [2]),
        ("select e'a'\n'\\', $1, ', $2", [2]),  # what goes on behind a line's end is an escape string still
        ("select e'a' -- ' $1\r  -- '\n '\\'$1', $2", [2]),
        ("select e'a' '\\', $1", [1]),  # on the same line it does not
        ("select e'a'--" + "-" * 5000 + "\n, $1", [1]),
        ("select $\N{ARABIC-INDIC DIGIT ONE}, $2", [2]),
        ("$1", [1]),
        ("", []),
    ],
)
def test_placeholders_are_found_where_postgres_sees_them(text: str, numbers: list[int]) -> None:
    assert [placeholder.number for placeholder in placeholders(text)] == numbers


@given(st.text(alphabet="aE'\"$1/*-\\ \n(tag)€"))
def test_tokens_cover_the_text_without_gap_or_overlap(text: str) -> None:
    end = 0
    for token in tokens(text):
        assert token.start == end < token.end
        end = token.end
    assert end == len(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [("COMMIT", "commit"), (" -- a\n/* b */ End;", "end"), ("", ""), ("(select 1)", ""), ("'commit'", "")],
)
def test_the_first_word_is_found_behind_comments(text: str, word: str) -> None:
    assert first_word(text) == word
