"""What no plan shows."""

from typing import Any

import pytest

from sqlhttp_gateway.reads.plan import plan_from_json
from sqlhttp_gateway.reads.veiled import unveil


def unveiled(text: str, **node: Any) -> Any:
    plan = plan_from_json([{"Plan": {"Node Type": "Result", "Output": ["column1"], **node}}])
    unveil(plan, text)
    return plan


VALUES = {"Node Type": "Values Scan"}


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("VALUES (f())", VALUES),
        ("VALUES (1, 'f()'), (2, s . F ())", VALUES),
        ("VALUES (f/* ( */ (1))", VALUES),
        ("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = f()", {"Conflict Resolution": "UPDATE"}),
        ("MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET a = f()", {"Operation": "Merge"}),
        ("SELECT 1 LIMIT f()", {}),
        ("SELECT 1 OFFSET floor(f() * 10)", {}),
        ("SELECT 1 FETCH FIRST (f()) ROWS ONLY", {}),
        ("SELECT 1 LIMIT 1 + f()", {}),
        ("SELECT 1 LIMIT $1 - f() OFFSET 3", {}),
        ("SELECT 1 OFFSET 2::int\n+ f()", {}),
        ("SELECT 1 LIMIT NULL::int + f()", {}),
        ("SELECT 1 FETCH  NEXT (f()) ROW ONLY", {}),
        ("SELECT sum(1) OVER (ORDER BY a ROWS f() PRECEDING) FROM t", {}),
    ],
)
def test_functions_are_found_where_no_plan_shows_them(text: str, node: dict[str, Any]) -> None:
    plan = unveiled(text, **node)
    assert "f" in plan.functions
    assert plan.is_veiled
    assert not plan.has_hidden_values


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT f(1) LIMIT 10 OFFSET 20", "SELECT f(1) LIMIT $1", "SELECT f(1) LIMIT ALL", "SELECT f(1) LIMIT 5;"),
        *("SELECT f(1) LIMIT $1::int", "(SELECT f(1) LIMIT 5) UNION SELECT 1", "SELECT f(1) LIMIT 1 FOR UPDATE"),
        "SELECT f(1) WHERE 3 BETWEEN 1 AND 5",
    ],
)
def test_text_is_left_alone_where_the_plan_says_all(text: str) -> None:
    plan = unveiled(text)
    assert not plan.functions
    assert not plan.is_veiled


def test_moment_in_values_is_found_and_one_in_a_literal_is_none() -> None:
    assert unveiled("VALUES (Current_Date)", **VALUES).has_clock
    assert not unveiled("VALUES ('current_date') -- current_date", **VALUES).has_clock


def test_values_of_a_view_are_noticed() -> None:
    assert unveiled("SELECT * FROM levels", **VALUES).has_hidden_values
    assert unveiled("SELECT * FROM levels, (VALUES (1)) v", **VALUES, Plans=[VALUES]).has_hidden_values


def test_name_in_escapes_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="escapes"):
        unveiled(r'VALUES (U&"\0066"())', **VALUES)
