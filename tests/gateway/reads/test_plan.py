from time import process_time
from typing import Any

import pytest

from sqlhttp_gateway.reads.plan import names_called, plan_from_json


def scan(relation: str, **more: Any) -> dict[str, Any]:
    return {"Node Type": "Seq Scan", "Schema": "public", "Relation Name": relation, "Alias": relation, **more}


def test_relations_read_and_written_are_told_apart() -> None:
    plan = plan_from_json(
        [
            {
                "Plan": {
                    "Node Type": "ModifyTable",
                    "Operation": "Update",
                    "Schema": "public",
                    "Relation Name": "users",
                    "Target Tables": [{"Schema": "public", "Relation Name": "users_old", "Alias": "users_1"}],
                    "Plans": [scan("orders")],
                }
            }
        ]
    )
    assert plan.writes == {"public.users", "public.users_old"}
    assert plan.reads == {"public.orders"}


def test_functions_are_found_in_every_expression_and_not_in_literals() -> None:
    plan = plan_from_json(
        [
            {
                "Plan": scan(
                    "users",
                    Output=["random()", "'now()'::text", "E'it\\'s now()'", '"odd ""name""("(1)'],
                    Filter="(app.secret(id) AND (EXTRACT(year FROM at) > '1'::numeric))",
                )
            }
        ]
    )
    assert plan.functions == {"random", 'odd "name"(', "secret", "extract"}
    assert not plan.has_clock


def test_function_in_from_is_found_by_its_node() -> None:
    node = {"Node Type": "Function Scan", "Schema": "app", "Function Name": "f", "Function Call": "app.f($1)"}
    plan = plan_from_json([{"Plan": node}])
    assert plan.functions == {"f"}
    assert plan.reads == set()


def test_words_for_the_moment_are_seen() -> None:
    assert plan_from_json([{"Plan": scan("t", Filter="(at < CURRENT_TIMESTAMP)")}]).has_clock
    assert not plan_from_json([{"Plan": scan("t", Filter="(at = 'CURRENT_DATE'::text)")}]).has_clock


def test_what_is_not_the_same_each_time_or_not_whole_is_seen() -> None:
    assert plan_from_json([{"Plan": {"Node Type": "LockRows", "Plans": [scan("t")]}}]).locks
    sampled = {"Sampling Method": "system", "Sampling Parameters": ["'10'::real"]}
    assert plan_from_json([{"Plan": scan("t", **sampled)}]).samples
    assert not plan_from_json([{"Plan": scan("t", **sampled, **{"Repeatable Seed": "'1'"})}]).samples
    assert plan_from_json([{"Plan": {"Node Type": "Append", "Subplans Removed": 2}}]).is_partial


@pytest.mark.parametrize("document", [{}, [], [{"Utility Statement": 1}], ["x"]])
def test_what_is_no_plan_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="plan"):
        plan_from_json(document)


def test_keyword_before_a_parenthesis_is_found_too_and_does_no_harm() -> None:
    assert names_called("COALESCE(a, lower(b)) IN (1)") == {"coalesce", "lower"}


@pytest.mark.parametrize("piece", ["a", '"', '""', '"a', "a.", "é"])
def test_names_are_found_in_time_that_grows_with_the_text(piece: str) -> None:
    def cost(size: int) -> float:
        text, began = piece * (size // len(piece)), process_time()
        names_called(text)
        return process_time() - began

    assert min(cost(64_000) for _ in range(3)) < 40 * max(min(cost(4_000) for _ in range(3)), 0.0005)


def test_foreign_tables_that_are_joined_or_counted_where_they_are_may_be_any() -> None:
    """As postgres_fdw tells it: the names stand in the middle of a description."""
    node = {"Node Type": "Foreign Scan", "Operation": "Select", "Output": ["(count(*))"]}
    pushed = node | {"Relations": "Aggregate on (public.orders)", "Remote SQL": "SELECT count(*) FROM public.orders"}
    assert plan_from_json([{"Plan": pushed}]).is_partial
    plain = plan_from_json([{"Plan": node | {"Relation Name": "orders", "Schema": "public", "Alias": "orders"}}])
    assert (plain.reads, plain.is_partial) == ({"public.orders"}, False)


def test_plan_of_an_extension_that_tells_nothing_is_none() -> None:
    citus = {"Node Type": "Custom Scan", "Custom Plan Provider": "Citus Adaptive", "Distributed Query": {"Job": {}}}
    with pytest.raises(ValueError, match="does not tell"):
        plan_from_json([{"Plan": {"Node Type": "Sort", "Plans": [citus]}}])
    chunks = {"Node Type": "Custom Scan", "Custom Plan Provider": "ChunkAppend", "Plans": [scan("chunk_1")]}
    assert plan_from_json([{"Plan": chunks}]).reads == {"public.chunk_1"}
