"""Texts cut into words, names, strings, and into their statements."""

import pytest

from sqlhttp_gateway.wire.lexer import Token, first_word, pieces_of, split_statements, statements_of, tokens_of


def test_words_are_in_lower_case_and_quotes_are_taken_off() -> None:
    tokens = list(tokens_of(b"SELECT \"A\"\"b\", 'it''s', $x$ ; $x$ -- end"))
    assert tokens == [
        Token("word", b"select"),
        Token("name", b'A"b'),
        Token("other", b","),
        Token("string", b"it's"),
        Token("other", b","),
        Token("string", b" ; "),
    ]


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (b"", []),
        (b" ; -- nothing\n;", []),
        (b"SELECT 1", [b"SELECT 1"]),
        (b"SELECT 1;", [b"SELECT 1"]),
        (b"a;b;;c", [b"a", b"b", b"c"]),
        (b"SELECT ';' ; SELECT $$;$$", [b"SELECT ';' ", b" SELECT $$;$$"]),
        (b"/* ; /* ; */ ; */ a; b", [b"/* ; /* ; */ ; */ a", b" b"]),
        (b"CREATE RULE r AS ON INSERT TO t DO (a; b); c", [b"CREATE RULE r AS ON INSERT TO t DO (a; b)", b" c"]),
    ],
)
def test_text_is_cut_where_a_statement_ends(text: bytes, texts: list[bytes]) -> None:
    assert split_statements(text) == texts


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"CALL p()", b"call"),
        (b" ;; -- a\n/* b /* c */ */ Do $$ $$", b"do"),
        (b"(SELECT 1)", b""),
        (b'"call" x', b""),
        (b"; /* a */", b""),
        (b"", b""),
    ],
)
def test_first_word_stands_behind_comments_and_empty_statements(text: bytes, word: bytes) -> None:
    assert first_word(text) == word


def test_first_word_stands_behind_what_else_may_stand_in_front_of_it() -> None:
    assert first_word(b"((/* x */ SELECT 1) )") == b""
    assert first_word(b";((/* x */ SELECT 1) )", behind=(b"(", b";")) == b"select"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (b"", [b""]),
        (b"a;b;;c", [b"a", b"b", b"", b"c"]),
        (b"SELECT ';' ; SELECT $$;$$;", [b"SELECT ';' ", b" SELECT $$;$$", b""]),
        (b"/* ; /* ; */ ; */ a; b", [b"/* ; /* ; */ ; */ a", b" b"]),
        (b"a -- ;\n; b --\r; c", [b"a -- ;\n", b" b --\r", b" c"]),
        (b"E'\\';' ; like'\\';' U&\";\"", [b"E'\\';' ", b" like'\\'", b'\' U&";"']),
        (b"a$$;$$;b / 2 - 1; $1$$;$$", [b"a$$", b"$$;b / 2 - 1; $1$$", b"$$"]),
        (b"'no end;", [b"'no end;"]),
        (b"$a$ no end; $b$", [b"$a$ no end; $b$"]),
        (b"/* no end;", [b"/* no end;"]),
    ],
)
def test_pieces_are_the_texts_of_the_statements(text: bytes, pieces: list[bytes]) -> None:
    assert list(pieces_of(text)) == pieces
    read = [[(token.kind, token.value) for token in statement] for statement in statements_of(text)]
    each = [[(token.kind, token.value) for token in tokens_of(piece)] for piece in pieces]
    assert [tokens for tokens in each if tokens] == read


@pytest.mark.parametrize("blanks", ["\n", "\r", " \n\t", " --'\n", "\n--'\n\n", "--\r\n"])
def test_a_string_with_backslashes_goes_on_behind_a_new_line(blanks: str) -> None:
    text = f"SELECT E'a'{blanks}'\\'' || b ; COMMIT ; --'".encode()
    first, second = statements_of(text)
    assert first[-1] == Token("word", b"b")
    assert [token.value for token in second] == [b"commit"]
    assert len(list(pieces_of(text))) == 3
    assert len(split_statements(text)) == 2


@pytest.mark.parametrize("between", [" ", "/**/\n", "\n/**/", "--x", "\n+"])
def test_a_string_that_only_follows_one_with_backslashes_is_another(between: str) -> None:
    tokens = list(tokens_of(f"SELECT E'a'{between}'\\' b".encode()))
    assert tokens[1] == Token("string", b"a")
    assert tokens[-1] == (Token("word", b"b") if between != "--x" else tokens[1])


def test_a_comment_that_ends_the_text_is_none_of_a_string_in_front_of_it() -> None:
    tokens = list(tokens_of(b"SELECT E'a'\n--'b'"))
    assert tokens[1:] == [Token("string", b"a")]
