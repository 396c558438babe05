"""A text as names are looked for in it."""

from sqlhttp_gateway.reads.plain import plain_text


def test_plain_text_keeps_names_and_operators_and_drops_the_rest() -> None:
    text = b"""SELECT "A""b" (1)/*x*/ ### 'a''(' -- y"""
    assert plain_text(text, lambda value: " ''") == """ select "A""b"(1)### ''"""


def test_literal_is_given_what_a_string_holds() -> None:
    held: list[bytes] = []
    assert plain_text(b"a 'b''c' $x$ d $x$", lambda value: held.append(value) or "?") == " a??"
    assert held == [b"b'c", b" d "]
