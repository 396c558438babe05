"""What every section of the settings has in common."""

import pytest
from pydantic import ValidationError

from sqlhttp_gateway.settings.section import Bytes, Origin, OriginOrWord, Place, Seconds, Section


class Some(Section):
    wait: Seconds = 1.0
    size: Bytes = 1


@pytest.mark.parametrize("given", [{"wait": "inf"}, {"wait": "nan"}, {"size": 0}, {"other": 1}])
def test_a_number_without_end_no_bytes_at_all_and_a_name_that_is_none_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Some(**given)  # type: ignore[arg-type]  # what is wrong is the point


def test_a_default_is_held_against_its_own_limits() -> None:
    class Wrong(Section):
        size: Bytes = 0

    with pytest.raises(ValidationError):
        Wrong()


class Bounds(Section):
    origin: Origin = "null"
    word: OriginOrWord = "*"
    place: Place = "::1"


@pytest.mark.parametrize(
    "given",
    [
        {"origin": "https://app.example", "word": "https://app.example", "place": "10.0.0.1"},
        {"origin": "https://*.app.example:8443", "word": "local", "place": "10.0.0.1/8"},
        {"origin": "http://[::1]:3000", "word": "null", "place": " 10.0.0.1 - 10.0.0.9 "},
        {"origin": "capacitor://localhost", "place": "2001:db8::/32"},
        {"origin": "file://"},
    ],
)
def test_what_browsers_send_and_where_programs_come_from_is_taken_as_it_is(given: dict[str, str]) -> None:
    assert Bounds(**given).model_dump(exclude_unset=True) == given


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"origin": each}
            for each in ("*", "local", "", "app.example", "https://app.example/", "https://App.example")
        ),
        *({"word": each} for each in ("**", "https://a@app.example", "https://app.example/path", "https://a.*")),
        *({"place": each} for each in ("", "1.2.3", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "app.example")),
    ],
)
def test_what_would_silently_keep_everybody_out_is_refused_and_not_shown(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Bounds(**given)
    [fault] = refused.value.errors()
    assert fault["msg"].startswith("Value error, not a")
