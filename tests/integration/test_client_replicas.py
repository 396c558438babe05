"""The clients before replicas: where their calls go, and that they see again what they have seen."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlhttp import BookmarkLost, NeonDbError, Sql, neon, neon_async
from tests.integration.test_replicas import paused, wait_until_routed
from tests.support.fleet import Fleet
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.node import CONTRACT

WHERE = "select pg_is_in_recovery()"
README = (Path(__file__).parents[2] / "client" / "README.md").read_text()


@pytest.fixture(scope="module")
def gateway(fleet: Fleet) -> Iterator[Gateway]:
    with gateway_in_thread(fleet.url, {"replica": {"bookmark_wait": 0.3}}) as gateway:
        wait_until_routed(gateway, fleet)
        yield gateway


@pytest.fixture
def sql(gateway: Gateway, fleet: Fleet) -> Iterator[Sql[list[dict[str, object]]]]:
    """A client that reads from replicas, and a table to write to."""
    fleet.primary.maintenance.psql("CREATE TABLE seen (id int PRIMARY KEY, v int)")
    fleet.wait_replayed()
    yield neon(fleet.primary.maintenance.url, endpoint=gateway.sql, consistency="replica")
    fleet.primary.maintenance.psql("DROP TABLE seen")


def test_calls_that_only_read_go_to_a_replica_where_that_is_wanted(gateway: Gateway, fleet: Fleet) -> None:
    url = fleet.primary.maintenance.url
    assert neon(url, endpoint=gateway.sql, read_only=True).val(WHERE) is True
    plain = neon(url, endpoint=gateway.sql)
    assert plain.val(WHERE) is False
    assert plain.query(WHERE, read_only=True)[0]["pg_is_in_recovery"] is True
    assert plain.transaction([plain.q(WHERE)], read_only=True) == [[{"pg_is_in_recovery": True}]]


def test_text_that_only_reads_beyond_doubt_goes_to_a_replica(sql: Sql[list[dict[str, object]]]) -> None:
    assert sql.val("show in_hot_standby") == "on"
    assert sql.val("show in_hot_standby -- and nextval('x')") == "on"
    assert sql.transaction([sql.q("show in_hot_standby")])[0] == [{"in_hot_standby": "on"}]
    assert sql.val("select pg_is_in_recovery(), pg_advisory_xact_lock(1)") is False, "a function that may do anything"
    assert sql.query("show in_hot_standby", consistency="primary") == [{"in_hot_standby": "off"}]
    with pytest.raises(NeonDbError, match="consistency is one of"):
        sql.with_(consistency="both")  # type: ignore[arg-type]


def test_client_sees_what_it_has_written(sql: Sql[list[dict[str, object]]], fleet: Fleet) -> None:
    sql("insert into seen values (1, 0)")
    for turn in range(1, 51):
        sql("update seen set v = $1", turn)
        assert sql.with_(array_mode=True)("select v from seen") == [(turn,)]
    with paused(fleet):
        sql("update seen set v = -1")
        assert sql.val("select v from seen") == -1, "with no replica that has it, the primary answers"
        stranger = neon(fleet.primary.maintenance.url, endpoint=sql._options.destination.endpoint.url)
        assert stranger.with_(consistency="replica").val("select v from seen") == 50


async def test_asynchronous_client_sees_it_too(sql: Sql[list[dict[str, object]]], fleet: Fleet) -> None:
    url = sql._options.destination.endpoint.url
    async with neon_async(fleet.primary.maintenance.url, endpoint=url, consistency="replica") as client:
        await client("insert into seen values (1, 0)")
        for turn in range(1, 51):
            await client("update seen set v = $1", turn)
            assert await client.val("select v from seen") == turn
        assert await client.val("show in_hot_standby") == "on"


def test_lost_bookmark_is_told_once_and_forgotten(sql: Sql[list[dict[str, object]]]) -> None:
    assert sql._options.bookmark is not None
    sql._options.bookmark.value = f"v1-{1:016x}-{1:08x}-{1:016x}"
    with pytest.raises(BookmarkLost) as caught:
        sql("insert into seen values (1, 1)")
    assert not caught.value.may_have_run
    assert sql.val("select count(*) from seen") == 0


def test_recipe_for_the_javascript_driver(gateway: Gateway, fleet: Fleet, node: str) -> None:
    [recipe] = re.findall(r"^```js\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    script = f"""
        import {{ neon, neonConfig }} from '@neondatabase/serverless';
        {recipe}
        neonConfig.fetchEndpoint = '{gateway.sql}';
        const sql = neon('{fleet.primary.maintenance.url}');
        await sql`CREATE TABLE recipe (v int)`;
        await sql`INSERT INTO recipe VALUES (0)`;
        for (let turn = 1; turn <= 50; turn++) {{
          await sql`UPDATE recipe SET v = ${{turn}}`;
          const [rows] = await sql.transaction([sql`SELECT v FROM recipe`], {{ readOnly: true }});
          if (rows[0].v !== turn) throw new Error(`${{rows[0].v}} instead of ${{turn}}`);
        }}
        const [[where]] = await sql.transaction([sql`SHOW in_hot_standby`], {{ readOnly: true }});
        await sql`DROP TABLE recipe`;
        bookmark = 'v1-0000000000000001-00000001-0000000000000001';
        const refused = await sql`SELECT 1`.then(() => 'answered', (error) => error.message);
        const [one] = await sql`SELECT 1 AS one`;
        console.log(JSON.stringify([where.in_hot_standby, refused.includes('409'), one.one]));
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        env=environment,
        cwd=CONTRACT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '["on",true,1]'
