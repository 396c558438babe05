"""The cache against a model: no answer is one that Postgres would not have given, but for staleness that was asked for.

Two gateways share a real Redis before a real Postgres. Several roles read under policies that change; rows are written
through either gateway, and past both. What a cached read may say is what an uncached one has said, to the same role, at
some moment since something that the gateways know of last changed what it reads.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.redis_server import running_redis
from tests.support.running_app import RunningApp, running_app

QUERIES = {
    "docs": ("SELECT id, owner, value FROM docs ORDER BY id", {"docs"}),
    "counted": ("SELECT count(*)::int AS n FROM docs d JOIN marks m ON m.doc = d.id", {"docs", "marks"}),
    "viewed": ("SELECT total FROM totals", {"docs"}),
    "marks": ("SELECT doc FROM marks ORDER BY doc", {"marks"}),
}
POLICIES = {
    "true": set[str](),
    "owner = current_user": set[str](),
    "value > 5": set[str](),
    "id IN (SELECT doc FROM marks)": {"marks"},
}
WRITES = {
    "INSERT INTO docs VALUES ({id}, '{owner}', {value}) ON CONFLICT (id) DO UPDATE SET value = excluded.value": {
        "docs"
    },
    "UPDATE docs SET value = value + 1 WHERE id = {id}": {"docs"},
    "DELETE FROM docs WHERE id = {id}": {"docs", "marks"},  # by its cascade
    "INSERT INTO marks SELECT {id} WHERE EXISTS (SELECT FROM docs WHERE id = {id})": {"marks"},
    "SELECT touch({value})": {"docs"},  # a function that writes
    "TRUNCATE marks": {"marks"},
}
AHEAD = 5.0
"""Seconds in which one gateway has to hear what was written through the other."""


class World:
    """What there is: a database, two gateways, and roles."""

    def __init__(self, runner: asyncio.Runner, apps: list[RunningApp], database: Database, roles: list[str]) -> None:
        self.runner = runner
        self.apps = apps
        self.database = database
        self.roles = roles

    def ask(self, app: int, role: str, text: str, *, cached: bool) -> Any:
        url = self.database.as_role(role, "secret").url
        headers = {"cache_control": "max-age=600"} if cached else {}
        call = self.runner.run(self.apps[app].post({"query": text}, url=url, **headers))
        assert call.status == 200, call.body
        return call.json()["rows"]

    def write(self, app: int, text: str) -> None:
        call = self.runner.run(self.apps[app].post({"query": text}))
        assert call.status == 200, call.body

    def write_past(self, text: str) -> None:
        self.database.psql(text)


class Reading(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.write(0, "TRUNCATE docs, marks")
        self.policy = "true"
        self.set_policy("true")
        self.last_app = 0

    def truth(self, role: str, name: str) -> Any:
        return self.world.ask(0, role, QUERIES[name][0], cached=False)

    def relations(self, name: str) -> set[str]:
        read = QUERIES[name][1]
        return read | POLICIES[self.policy] if "docs" in read else read

    def set_policy(self, policy: str) -> None:
        self.world.write(0, "DROP POLICY IF EXISTS own ON docs")
        self.world.write(0, f"CREATE POLICY own ON docs USING ({policy})")
        self.policy = policy
        self.last_app = 0
        self.allowed = {(role, name): [self.truth(role, name)] for role in self.world.roles for name in QUERIES}

    def noted(self, changed: set[str], *, is_known: bool) -> None:
        """Something was written: what reads it may say so, and where the gateways know of it, nothing else."""
        for (role, name), answers in self.allowed.items():
            if is_known and self.relations(name) & changed:
                answers.clear()
            if (answer := self.truth(role, name)) not in answers:
                answers.append(answer)

    @rule(name=st.sampled_from(sorted(QUERIES)))
    def read(self, name: str) -> None:
        """Through the gateway that knows of the last write first, and twice, the second time from memory."""
        for app in (self.last_app, 1 - self.last_app):
            for role in self.world.roles:
                self.read_as(role, name, app)
                self.read_as(role, name, app)

    def read_as(self, role: str, name: str, app: int) -> None:
        allowed = self.allowed[role, name]
        clock = self.world.runner.get_loop().time
        deadline = clock() + (AHEAD if app != self.last_app else 0.0)
        while (found := self.world.ask(app, role, QUERIES[name][0], cached=True)) not in allowed:
            assert clock() < deadline, (found, allowed)

    @rule(
        app=st.integers(0, 1),
        template=st.sampled_from(sorted(WRITES)),
        id=st.integers(1, 3),
        value=st.integers(0, 10),
        owner=st.integers(0, 1),
    )
    def write(self, app: int, template: str, id: int, value: int, owner: int) -> None:
        self.world.write(app, template.format(id=id, value=value, owner=self.world.roles[owner]))
        self.last_app = app
        self.noted(WRITES[template], is_known=True)

    @rule(id=st.integers(1, 3), value=st.integers(11, 20))
    def write_past_the_gateways(self, id: int, value: int) -> None:
        self.world.write_past(f"UPDATE docs SET value = {value} WHERE id = {id}")
        self.noted({"docs"}, is_known=False)

    @rule(policy=st.sampled_from(sorted(POLICIES)))
    def change_policy(self, policy: str) -> None:
        self.set_policy(policy)

    @invariant()
    def uncached_reads_are_never_old(self) -> None:
        name = "docs"
        for role in self.world.roles:
            assert self.truth(role, name) == self.allowed[role, name][-1]


SCHEMA = """
CREATE TABLE docs (id int PRIMARY KEY, owner text, value int);
CREATE TABLE marks (doc int REFERENCES docs ON DELETE CASCADE);
CREATE VIEW totals WITH (security_invoker) AS SELECT sum(value)::int AS total FROM docs;
CREATE FUNCTION touch(int) RETURNS void LANGUAGE sql AS 'UPDATE docs SET value = $1 WHERE id = 1';
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON docs, marks, totals TO PUBLIC;
"""


@contextmanager
def world(postgres: Cluster) -> Iterator[World]:
    with (
        asyncio.Runner() as runner,
        running_redis() as redis,
        scratch_role(postgres) as one,
        scratch_role(postgres) as other,
    ):
        database = runner.run(postgres.create_database())
        database.psql(SCHEMA)
        stack = AsyncExitStack()

        async def start() -> list[RunningApp]:
            cache = {"shared_url": redis.url, "shared_timeout": 1.0}
            return [await stack.enter_async_context(running_app(database, cache=cache)) for _ in range(2)]

        apps = runner.run(start())
        try:
            yield World(runner, apps, database, [one, other])
        finally:
            runner.run(stack.aclose())
            database.psql(f"DROP OWNED BY {one}, {other}")
            runner.run(postgres.drop_database(database))


def test_no_answer_is_one_that_postgres_would_not_have_given(postgres: Cluster) -> None:
    with world(postgres) as there:
        Reading.world = there
        run_state_machine_as_test(
            Reading,
            settings=settings(
                max_examples=8,
                stateful_step_count=12,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
        hits = [
            event
            for app in there.apps
            for event in app.events
            if getattr(event, "outcome", "") == "hit" and hasattr(event, "saved")
        ]
        assert len(hits) > 20, "the cache was hardly asked"
