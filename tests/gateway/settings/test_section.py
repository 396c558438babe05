"""What every section of the settings has in common."""

import pytest
from pydantic import ValidationError

from sqlhttp_gateway.settings.section import Bytes, Seconds, Section


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
