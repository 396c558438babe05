"""Asks Postgres what a statement reads and writes, and remembers it for a while.

A plan is asked for as the role that sends the statement, with what else runs in front of it, since policies and views
differ by role. What is remembered is bounded in number, in characters and in time, and forgotten when something that
decides it was changed through this gateway.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Any

import orjson

from sqlhttp_gateway.model import Result, Statement
from sqlhttp_gateway.reads.functions import HARMLESS, Function, Meaning
from sqlhttp_gateway.reads.plan import Plan, plan_from_json
from sqlhttp_gateway.reads.veiled import unveil
from sqlhttp_gateway.reads.verdict import NOTHING, UNKNOWN, Verdict, has_plan, makes_table
from sqlhttp_gateway.wire.rows import rows_of

Run = Callable[[Sequence[Statement]], Awaitable[list[Result]]]
"""Runs statements in one READ ONLY transaction as whoever asks, and gives their results as text, rows as arrays."""
Key = tuple[str, str, str, str, str]
"""Target, database, the role that logs in, whose settings hold, the role that runs it, text."""

MAX_REMEMBERED = 10_000
MAX_CHARACTERS = 4_000_000
"""Of all the texts together that something is remembered of, and of the names in that."""
_MAX_TEXT = 100_000
"""Characters of a statement that is still looked at."""
_DEPTH = 5
"""Levels of functions that call functions."""
_EXPLAIN = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) "
_PREPARED = "sqlhttp_explained"

_FUNCTIONS = """SELECT n.nspname, p.proname, p.provolatile, l.lanname, p.oid < 16384,
CASE WHEN p.oid >= 16384 AND p.prokind IN ('f', 'p', 'w') AND l.lanname IN ('sql', 'plpgsql')
THEN pg_catalog.pg_get_functiondef(p.oid) ELSE '' END, p.prokind = 'a'
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.proname IN (SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb))"""
_OPERATORS = """SELECT o.oprname, p.provolatile FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode WHERE o.oid >= 16384 AND p.provolatile <> 'i' AND p.oid >= 16384
AND p.prolang NOT IN (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'c' AND p.provolatile = 's')
UNION ALL SELECT '::', p.provolatile FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
WHERE c.oid >= 16384 AND p.oid >= 16384 AND p.provolatile = 'v'"""
_RELATIONS = """WITH RECURSIVE whole(oid) AS (
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname || '.' || c.relname) IN (SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb))
UNION SELECT i.inhparent FROM whole JOIN pg_catalog.pg_inherits i ON i.inhrelid = whole.oid)
SELECT n.nspname || '.' || c.relname, c.relkind, c.relpersistence
FROM whole JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"""
_TOUCHED = """WITH RECURSIVE touched(oid, cascades) AS (
SELECT c.oid, (n.nspname || '.' || c.relname) IN (SELECT pg_catalog.jsonb_array_elements_text($2::pg_catalog.jsonb))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname || '.' || c.relname) IN (SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb))
UNION SELECT more.oid, touched.cascades FROM touched, LATERAL (
SELECT f.conrelid AS oid FROM pg_catalog.pg_constraint f WHERE touched.cascades
AND f.contype = 'f' AND f.confrelid = touched.oid
AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = touched.oid) more)
SELECT n.nspname || '.' || c.relname, EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid
AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
WHERE p.oid = t.tgfoid AND s.nspname = 'sqlhttp' AND p.proname = 'cache_changed'))
OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
LEFT JOIN pg_catalog.pg_policy l ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND l.oid = d.objid
LEFT JOIN pg_catalog.pg_attrdef v ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND v.oid = d.objid
AND (n.nspname || '.' || c.relname) IN (SELECT pg_catalog.jsonb_array_elements_text($3::pg_catalog.jsonb))
WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.provolatile = 'v' AND p.oid >= 16384
AND p.proname NOT IN (SELECT pg_catalog.jsonb_array_elements_text($4::pg_catalog.jsonb))
AND (k.conrelid = c.oid OR l.polrelid = c.oid OR v.adrelid = c.oid OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
WHERE a.attrelid = c.oid AND a.atttypid = k.contypid AND k.contypid <> 0)))
FROM touched JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"""
_UNCOMPILED = Statement("SET LOCAL jit = off")
"""By what it cannot know of our lists Postgres takes these questions for costly enough to be compiled first, which is
half a second of its processor's time for each, and the question itself a millisecond (measured on Postgres 15)."""
_TABLES = frozenset("rpmvf")
"""pg_class.relkind: what has rows that only statements change. A sequence is none of these."""


class Verdicts:
    """Verdicts by target, database, roles and text."""

    def __init__(self, *, clock: Callable[[], int], lifetime: float) -> None:
        """`clock` counts nanoseconds; a verdict is believed for `lifetime` seconds."""
        self._clock = clock
        self._lifetime = int(lifetime * 1e9)
        self._known: OrderedDict[Key, tuple[int, Verdict]] = OrderedDict()
        self._characters = 0

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, key: Key, changed: int = 0) -> Verdict | None:
        """What is remembered, unless something was `changed` since, by the clock."""
        known = self._known.get(key)
        if known is None:
            return None
        asked, verdict = known
        if changed >= asked or self._clock() - asked > self._lifetime:
            self._forget(key)
            return None
        return verdict

    async def ask(self, key: Key, params: int, run: Run) -> Verdict:
        """What Postgres says of the text of `key`, which has so many parameters.

        Raises:
            GatewayError: it could not be asked, or refuses the statement itself.
        """
        text = key[4]
        if len(text) > _MAX_TEXT or not has_plan(text):
            return UNKNOWN
        asked = self._clock()
        verdict = await self._judge(text, params, run)
        self._remember(key, asked, verdict)
        return verdict

    def _remember(self, key: Key, asked: int, verdict: Verdict) -> None:
        """What is too old to be believed goes, also this one: texts that come once would be kept for ever."""
        self._forget(key)
        self._known[key] = asked, verdict
        self._characters += _characters(key, verdict)
        believed = self._clock() - self._lifetime
        while self._known and (
            len(self._known) > MAX_REMEMBERED
            or self._characters > MAX_CHARACTERS
            or next(iter(self._known.values()))[0] < believed
        ):
            self._forget(next(iter(self._known)))

    def _forget(self, key: Key) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._characters -= _characters(key, known[1])

    async def _judge(self, text: str, params: int, run: Run) -> Verdict:
        if makes_table(text):
            return UNKNOWN
        try:
            plan = plan_from_json(orjson.loads(await self._explain(text, params, run)))
            unveil(plan, text)
        except ValueError:
            return UNKNOWN
        meaning = Meaning()
        await _understand(meaning, plan.functions, run)
        relations = {f"{name}": (kind, keeping) for name, kind, keeping in await _rows(run, _RELATIONS, plan.reads)}
        operators = await _rows(run, _OPERATORS)
        return _verdict(plan, meaning, relations, operators, await _touched(plan, meaning, run))

    async def _explain(self, text: str, params: int, run: Run) -> str:
        if not params:
            return _document((await run((Statement(_EXPLAIN + text),)))[0])
        # With a value in its place a parameter would be folded, and what it switches off be missing from the plan.
        results = await run(
            (
                Statement(f"PREPARE {_PREPARED} AS {text}"),
                Statement("SET LOCAL plan_cache_mode = force_generic_plan"),
                Statement(f"{_EXPLAIN}EXECUTE {_PREPARED}({', '.join(['NULL'] * params)})"),
                Statement(f"DEALLOCATE {_PREPARED}"),
            )
        )
        return _document(results[2])


def _characters(key: Key, verdict: Verdict) -> int:
    return len(key[4]) + sum(map(len, verdict.reads or ())) + sum(map(len, verdict.writes or ()))


def _document(result: Result) -> str:
    return "\n".join(row[0] or "" for row in _texts(result))


def _texts(result: Result) -> list[list[str | None]]:
    """The rows, whose values are text. Those of a large answer became JSON as they came: arrays, as was asked for."""
    if result.read is not None:
        read: list[list[str | None]] = orjson.loads(b"".join(result.read.json()))
        return read
    return [[None if value is None else value.decode() for value in row] for row in rows_of(result.rows)]


async def _understand(meaning: Meaning, names: set[str], run: Run) -> None:
    """Look at the functions of these names, and at those that they call."""
    seen: set[str] = set()
    for _ in range(_DEPTH):
        names = names - seen
        if not names:
            return
        seen |= names
        for schema, name, volatility, language, is_builtin, definition, is_aggregate in await _rows(
            run, _FUNCTIONS, names
        ):
            meaning.add(
                Function(
                    schema,
                    name,
                    volatility,
                    language,
                    is_builtin == "t",
                    definition,
                    is_aggregate == "t" and is_builtin != "t",
                )
            )
        names = meaning.callees
    if names - seen:
        meaning.volatile = meaning.volatile or min(names - seen)


async def _touched(plan: Plan, meaning: Meaning, run: Run) -> frozenset[str] | None:
    """All that may be written; None: anything."""
    if meaning.writer:
        return None
    if not plan.writes:
        return NOTHING
    unseen_defaults = plan.writes if plan.is_veiled else set()
    rows = await _rows(run, _TOUCHED, plan.writes, plan.cascades, unseen_defaults, HARMLESS)
    if any(runs_more == "t" for _, runs_more in rows):
        return None
    return frozenset(plan.writes | {name for name, _ in rows})


def _verdict(
    plan: Plan,
    meaning: Meaning,
    relations: dict[str, tuple[str, str]],
    operators: list[tuple[str, ...]],
    writes: frozenset[str] | None,
) -> Verdict:
    refusals: list[tuple[str, str]] = []
    if plan.locks or meaning.locks:
        refusals.append(("locks", ""))
    if writes != NOTHING:
        refusals.append(("writes", meaning.writer))
    for name, volatility in operators:
        if name in plan.expressions:
            refusals.append(("volatile", f"operator {name}"))
            if volatility == "v":
                writes = None
    if meaning.volatile:
        refusals.append(("volatile", meaning.volatile))
    if plan.has_hidden_values:
        refusals.append(("volatile", "values"))
    if plan.samples:
        refusals.append(("volatile", "tablesample"))
    if meaning.clock or plan.has_clock:
        refusals.append(("time", meaning.clock))
    for name in sorted(plan.reads):
        kind, keeping = relations.get(name, ("?", "?"))
        if kind not in _TABLES or keeping == "t":
            refusals.append(("relation", name))
    # What a partition belongs to counts, too: a trigger or a program names the whole.
    reads = None if meaning.hides or plan.is_partial else frozenset(plan.reads | relations.keys())
    return Verdict(reads, writes, tuple(refusals))


async def _rows(run: Run, text: str, *names: Set[str]) -> list[tuple[Any, ...]]:
    """Rows as text. The parameters are lists of names; without any in the first there is nothing to ask."""
    if names and not names[0]:
        return []
    question = Statement(text, tuple(orjson.dumps(sorted(each)) for each in names))
    _, result = await run((_UNCOMPILED, question))
    return [tuple(value or "" for value in row) for row in _texts(result)]
