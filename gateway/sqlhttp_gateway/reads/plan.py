"""What a plan says of its statement: the relations it reads and writes, and the functions it calls. Pure.

The plan is EXPLAIN's, VERBOSE and in JSON. Views and policies are expanded in it, SQL functions mostly inlined, and
every expression that is left stands in it as text. From there only names are taken, so that of functions with one
name all are looked at; that is more than need be, never less.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_NO_EXPRESSIONS = frozenset(
    {
        "Alias",
        "Async Capable",
        "CTE Name",
        "Command",
        "Index Name",
        "Join Type",
        "Node Type",
        "Operation",
        "Parent Relationship",
        "Partial Mode",
        "Relation Name",
        "Scan Direction",
        "Schema",
        "Strategy",
        "Subplan Name",
        "Tuplestore Name",
    }
)
_LITERAL = re.compile(r"E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'", re.DOTALL)
_CALL = re.compile(r'(?:(?<!")"((?:[^"]++|"")++)"|(?<![\w$])([A-Za-z_\u0080-\U0010ffff][\w$]*+))\(')
_NOW = re.compile(r"\b(?:CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP)\b")


@dataclass(slots=True)
class Plan:
    """What was found in it. Relations are "schema.name"."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    cascades: set[str] = field(default_factory=set)
    """Those whose rows are not only added, so that foreign keys may hand the change on."""
    functions: set[str] = field(default_factory=set)
    """Names, without their schemas."""
    expressions: str = ""
    """All expressions, without the literals in them."""
    has_clock: bool = False
    """CURRENT_TIMESTAMP or one of its kind is in it."""
    locks: bool = False
    samples: bool = False
    """TABLESAMPLE takes other rows each time."""
    is_partial: bool = False
    """Something was left out of it."""
    value_lists: int = 0
    """Lists of VALUES, whose expressions it does not show."""
    is_veiled: bool = False
    """It evaluates something else that it does not show."""
    has_hidden_values: bool = False
    """Some of the lists are not in the statement's own text."""


def plan_from_json(document: Any) -> Plan:
    """The facts of a document of EXPLAIN (VERBOSE, FORMAT JSON).

    Raises:
        ValueError: it is no such document, or has a part that tells nothing of itself.
    """
    plan = Plan()
    if not isinstance(document, list) or not document:
        raise ValueError("not a list of plans")
    expressions: list[str] = []
    for each in document:
        if not isinstance(each, dict) or not isinstance(each.get("Plan"), dict):
            raise ValueError("not a plan of a query")
        _read(each["Plan"], plan, expressions)
    plan.expressions = "\n".join(_LITERAL.sub("''", each) for each in expressions)
    plan.functions |= names_called(plan.expressions)
    plan.has_clock = _NOW.search(plan.expressions) is not None
    return plan


def names_called(text: str) -> set[str]:
    """The names in front of a parenthesis; keywords that look like functions are among them."""
    return {match[1].replace('""', '"') if match[1] is not None else match[2].lower() for match in _CALL.finditer(text)}


def relation_of(node: dict[str, Any]) -> str | None:
    """The relation that a node, or a target of it, names."""
    name = node.get("Relation Name")
    return f"{node.get('Schema', '')}.{name}" if name is not None else None


def _read(node: dict[str, Any], plan: Plan, expressions: list[str]) -> None:
    relation = relation_of(node)
    kind = node.get("Node Type")
    if kind == "ModifyTable":
        targets = {target for target in (relation, *map(relation_of, node.get("Target Tables", ()))) if target}
        plan.writes |= targets
        if node.get("Operation") != "Insert" or node.get("Conflict Resolution") == "UPDATE":
            plan.cascades |= targets
    elif relation is not None:
        plan.reads.add(relation)
    elif kind == "Foreign Scan":
        plan.is_partial = True  # a join or an aggregate of foreign tables, left to the server that they are on
    elif kind == "Custom Scan" and not node.get("Plans"):
        raise ValueError("an extension, such as Citus, reads and writes what it does not tell")
    if node.get("Operation") in ("Insert", "Update", "Delete", "Merge") and relation is not None:
        plan.writes.add(relation)  # a foreign table that is written where it is
    if node.get("Operation") == "Merge" or node.get("Conflict Resolution") == "UPDATE":
        plan.is_veiled = True  # what is set, and in a MERGE what is inserted
    if kind == "Values Scan":
        plan.value_lists += 1
    if kind == "LockRows":
        plan.locks = True
    if "Sampling Method" in node and "Repeatable Seed" not in node:
        plan.samples = True
    if node.get("Subplans Removed"):
        plan.is_partial = True
    if isinstance(node.get("Function Name"), str):
        plan.functions.add(node["Function Name"])
    expressions += _expressions(node)
    for child in node.get("Plans", ()):
        _read(child, plan, expressions)


def _expressions(node: dict[str, Any]) -> Iterator[str]:
    for name, value in node.items():
        if name in _NO_EXPRESSIONS or name == "Plans":
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (each for each in value if isinstance(each, str))
            for each in value:
                if isinstance(each, list):  # grouping sets
                    yield from (one for one in each if isinstance(one, str))
                elif isinstance(each, dict):
                    yield from _expressions(each)
