"""The guide "Moving from Prisma Accelerate": its lines run as they stand in deploy/README.md."""

import json
import re
import subprocess
from pathlib import Path

from tests.contract.test_drivers import TIMEOUT
from tests.support.cluster import Database
from tests.support.gateway import Gateway

HERE = Path(__file__).parent
README = (HERE.parents[1] / "deploy" / "README.md").read_text()
_, _, GUIDE = README.partition("### Moving from Prisma Accelerate")
BLOCKS = re.findall(r"^```js\n(.*?)^```", GUIDE.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
WATCH = """
const inner = globalThis.fetch;
globalThis.fetch = async (...given) => {
  const response = await inner(...given);
  const status = response.headers.get('cache-status') ?? `${response.status}`;
  console.log(JSON.stringify(status.replace(/; ttl=-?\\d+/, '')));
  return response;
};
"""
AGAIN = """
await cached.author.findMany();
await sql.query("/* cache ttl=60 tags=authors */ select email from author where id = $1", [1]);
await db.execute('select count(*) from author');
"""
HIT, MISS, NOT_ASKED, DONE = "sqlhttp; hit", "sqlhttp; fwd=uri-miss; stored", "200", "204"


def test_lines_of_the_guide_do_what_it_says(node: str, gateway: Gateway, database: Database) -> None:
    database.psql("CREATE TABLE author (id serial PRIMARY KEY, email varchar(80) NOT NULL UNIQUE, born date)")
    lines = "\n".join([WATCH, *BLOCKS, AGAIN])
    lines = lines.replace("http://localhost:4444", gateway.url)
    lines = lines.replace("'@prisma/client'", "'./prisma/client.mjs'")  # generated from the schema of these tests
    done = subprocess.run(
        [node, "--input-type=module", "--eval", lines],
        cwd=HERE,
        env={"DATABASE_URL": database.url, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said[:4] == [MISS, HIT, NOT_ASKED, MISS], said
    assert said[4:7] == [DONE, MISS, MISS], said
    assert said[7:] == [MISS, HIT, HIT], said
