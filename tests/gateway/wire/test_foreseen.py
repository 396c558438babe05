"""An answer that comes as foreseen is what the exchange would have read; of any other nothing is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.model import Result
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.foreseen import Foreseen
from tests.support.backend_bytes import message
from tests.support.rows import data_row, description

READY_IDLE = b"Z\0\0\0\x05I"
BOUND = b"2\0\0\0\x04"
NO_DATA = b"n\0\0\0\x04"
SELECT_2 = b"C\0\0\0\x0dSELECT 2\0"
INSERT = b"C\0\0\0\x0fINSERT 0 1\0"
DIVISION = message(b"E", b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0")
NOTICE = message(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0")
COLUMNS = message(b"T", description("a", "b"))
FIRST_ROW, SECOND_ROW = data_row([b"1", None]), data_row([b"2", b"two"])
ROWS = FIRST_ROW + SECOND_ROW
BEHIND = b"2\0\0\0\x04C\0\0\0\x0aRESET\0" + READY_IDLE
END = READY_IDLE + BEHIND

FORESEEABLE = {
    "rows": BOUND + COLUMNS + ROWS + SELECT_2,
    "no rows": BOUND + COLUMNS + b"C\0\0\0\x0dSELECT 0\0",
    "no columns": BOUND + NO_DATA + INSERT,
    "a value that looks like an end": BOUND + COLUMNS + data_row([END, SELECT_2 + END]) + b"C\0\0\0\x0dSELECT 1\0",
}
SURPRISES = {
    "an error": BOUND + COLUMNS + ROWS + DIVISION,
    "refused at once": DIVISION,
    "another description": BOUND + message(b"T", description("a", "c")) + ROWS + SELECT_2,
    "another command": BOUND + COLUMNS + ROWS + b"C\0\0\0\x0cPREPARE\0",
    "a notice among the rows": BOUND + COLUMNS + FIRST_ROW + NOTICE + SECOND_ROW + SELECT_2,
    "a notice behind the command": BOUND + COLUMNS + ROWS + SELECT_2 + NOTICE,
    "a parameter in front": message(b"S", b"TimeZone\0UTC\0") + BOUND + COLUMNS + ROWS + SELECT_2,
    "in a transaction": BOUND + COLUMNS + ROWS + SELECT_2 + b"Z\0\0\0\x05T" + BEHIND,
    "parsed first": b"1\0\0\0\x04" + BOUND + COLUMNS + ROWS + SELECT_2,
    "no command": BOUND + COLUMNS + ROWS,
    "a row of no length": BOUND + COLUMNS + b"D\0\0\0\x04",
    "a tag of no length": BOUND + COLUMNS + b"C\0\0\0\x04",
    "a length beyond the end": BOUND + COLUMNS + b"D\x7f\xff\xff\xff",
    "a length into the end": BOUND + COLUMNS + b"D\0\0\0\x08",
    "a negative length": BOUND + COLUMNS + b"C\xff\xff\xff\xff",
    "nothing": b"",
}


def walked(answer: bytes, *, max_bytes: int = 0, count_names: bool = False) -> Exchange:
    """The same by the judge."""
    exchange = Exchange(max_bytes=max_bytes, count_names=count_names)
    assert exchange.receive(answer + END) == BEHIND
    return exchange


def foreseen_after(answer: bytes) -> Foreseen:
    foreseen = Foreseen.after(walked(answer).results[0])
    assert foreseen is not None
    return foreseen


@pytest.mark.parametrize("count_names", [False, True])
@pytest.mark.parametrize("name", FORESEEABLE)
def test_answer_is_what_the_exchange_reads_up_to_the_same_size(name: str, count_names: bool) -> None:
    answer = FORESEEABLE[name]
    foreseen = foreseen_after(answer)
    sizes = set()
    for max_bytes in [0, *range(60, 700)]:
        judge = walked(answer, max_bytes=max_bytes, count_names=count_names)
        read = foreseen.read(answer + END, END, max_bytes=max_bytes, count_names=count_names)
        assert read == (None if judge.error is not None else judge.results[0]), max_bytes
        sizes.add(read is None)
    assert sizes == {False, True}


@pytest.mark.parametrize("name", SURPRISES)
def test_surprise_is_left_to_the_exchange(name: str) -> None:
    for expected in FORESEEABLE.values():
        assert foreseen_after(expected).read(SURPRISES[name] + END, END, max_bytes=0, count_names=False) is None


@pytest.mark.parametrize("name", FORESEEABLE)
def test_answer_that_is_not_whole_or_goes_on_is_left_to_the_exchange(name: str) -> None:
    answer = FORESEEABLE[name] + END
    foreseen = foreseen_after(FORESEEABLE[name])
    for cut in range(len(answer)):
        assert foreseen.read(answer[:cut], END, max_bytes=0, count_names=False) is None
    assert foreseen.read(answer + NOTICE, END, max_bytes=0, count_names=False) is None
    assert foreseen.read(answer + END, END, max_bytes=0, count_names=False) is None


@given(st.binary(max_size=40), st.integers(0, 200))
def test_whatever_is_said_of_spoiled_bytes_is_what_the_exchange_says(noise: bytes, at: int) -> None:
    answer = bytearray(FORESEEABLE["rows"] + END)
    answer[at : at + len(noise)] = noise
    read = foreseen_after(FORESEEABLE["rows"]).read(bytes(answer), END, max_bytes=0, count_names=False)
    if read is not None:
        exchange = Exchange()
        assert exchange.receive(bytes(answer)) == BEHIND
        assert exchange.results == [read]


def parts(foreseen: list[Foreseen], data: bytes, *, count_names: bool = False) -> list[tuple[Result, int, int]] | None:
    """What all of them read, one behind the other."""
    found: list[tuple[Result, int, int]] = []
    for each in foreseen:
        part = each.read_part(data, found[-1][1] if found else 0, count_names=count_names)
        if part is None:
            return None
        found.append(part)
    return found


@pytest.mark.parametrize("count_names", [False, True])
def test_answers_behind_one_another_are_what_the_exchange_reads_of_all(count_names: bool) -> None:
    foreseen = [foreseen_after(answer) for answer in FORESEEABLE.values()]
    answers = b"".join(FORESEEABLE.values())
    judge = walked(answers, count_names=count_names)
    found = parts(foreseen, answers + END, count_names=count_names)
    assert found is not None
    assert [result for result, _, _ in found] == judge.results
    assert found[-1][1] == len(answers)
    assert sum(size for _, _, size in found) == judge.bytes_received
    for cut in range(len(answers)):
        assert parts(foreseen, answers[:cut]) is None


@pytest.mark.parametrize("name", SURPRISES)
def test_surprise_among_answers_is_not_read(name: str) -> None:
    before, spoiled = FORESEEABLE["rows"], SURPRISES[name]
    foreseen = foreseen_after(before)
    found = parts([foreseen, foreseen], before + spoiled + END)
    # What stands behind a whole answer is for whoever reads on.
    assert found is None or spoiled.startswith(before)


@pytest.mark.parametrize("length", [-(2**31), -65523, -1, 0, 3, 2**31 - 1])
def test_part_whose_command_has_an_impossible_length_is_not_read(length: int) -> None:
    answer = BOUND + COLUMNS + ROWS + b"C" + length.to_bytes(4, signed=True) + b"SELECT 2\0"
    assert foreseen_after(FORESEEABLE["rows"]).read_part(answer + END, 0, count_names=False) is None


@given(st.binary(max_size=40), st.integers(0, 300))
def test_whatever_is_said_of_spoiled_answers_is_what_the_exchange_says(noise: bytes, at: int) -> None:
    names = ("rows", "no columns", "rows")
    answer = bytearray(b"".join(FORESEEABLE[name] for name in names) + END)
    answer[at : at + len(noise)] = noise
    found = parts([foreseen_after(FORESEEABLE[name]) for name in names], bytes(answer))
    if found is not None and answer[found[-1][1] :] == END:
        exchange = Exchange()
        assert exchange.receive(bytes(answer)) == BEHIND
        assert exchange.results == [result for result, _, _ in found]


def test_description_is_kept_and_not_made_again() -> None:
    result = walked(FORESEEABLE["rows"]).results[0]
    foreseen = Foreseen.after(result)
    assert foreseen is not None
    assert foreseen.is_as(result)
    assert not foreseen.is_as(walked(FORESEEABLE["no columns"]).results[0])
    read = foreseen.read(FORESEEABLE["no rows"] + END, END, max_bytes=0, count_names=False)
    assert read is not None
    assert read.description is result.description


def test_large_description_and_empty_query_are_not_kept_in_mind() -> None:
    body = description(*[f"column {number}" for number in range(200)])
    assert Foreseen.after(Result(body, b"", 0, b"SELECT 0")) is None
    assert Foreseen.after(Result(None, b"", 0, None)) is None
