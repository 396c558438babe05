"""The examples are run: against a real gateway, with the drivers they name."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.node import CONTRACT, NodeMissing, node_with_drivers

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ORDERS = [{"id": 1, "total": 12.5, "placed": "2026-01-31"}, {"id": 3, "total": 7.0, "placed": "2026-02-01"}]
LAMBDA, WORKER, NEXT = (EXAMPLES / name for name in ("aws-lambda", "cloudflare-worker", "nextjs"))


@pytest.fixture
def shop(database: Database) -> Database:
    database.psql(
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, customer text, total numeric,"
        " placed date DEFAULT '2026-02-02');"
        "CREATE TABLE notes (customer text, body text NOT NULL);"
        "INSERT INTO orders (customer, total, placed) VALUES"
        " ('O''Hara & Co', 12.5, '2026-01-31'), ('other', 1, '2026-01-31'), ('O''Hara & Co', 7, '2026-02-01')"
    )
    return database


@pytest.fixture
def node() -> str:
    try:
        return node_with_drivers()
    except NodeMissing as missing:
        pytest.skip(str(missing))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("handler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_node(node: str, example: Path, script: str, folder: Path, **environment: str) -> Any:
    """What the script prints as JSON; it runs in a copy of the example that has the drivers."""
    copy = folder / example.name
    shutil.copytree(example, copy)
    (copy / "node_modules").symlink_to(CONTRACT / "node_modules")
    (copy / "try.mjs").write_text(script)
    done = subprocess.run(
        [node, "try.mjs"], cwd=copy, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lambda_answers_with_the_customer_s_orders(
    gateway: Gateway, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", shop.url)
    monkeypatch.setenv("SQLHTTP_ENDPOINT", gateway.sql)
    answer = load(LAMBDA / "handler.py").handler({"pathParameters": {"customer": "O'Hara & Co"}}, None)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == ORDERS


class Template(yaml.SafeLoader):
    """CloudFormation's short forms, such as !Ref Endpoint, become {"Ref": "Endpoint"}."""


Template.add_multi_constructor("!", lambda loader, tag, node: {tag: loader.construct_scalar(node)})


def test_lambda_template_names_the_handler_and_sets_what_it_reads() -> None:
    template = yaml.load((LAMBDA / "template.yaml").read_text(), Template)
    function = template["Resources"]["Orders"]["Properties"]
    module, name = function["Handler"].split(".")
    source = (LAMBDA / f"{module}.py").read_text()
    assert f"def {name}(event" in source
    variables = function["Environment"]["Variables"]
    assert set(re.findall(r'os\.environ\["(\w+)"\]', source)) == set(variables)
    [parameter] = re.findall(r"\{(\w+)\}", function["Events"]["Api"]["Properties"]["Path"])
    assert f'["pathParameters"]["{parameter}"]' in source
    references = set(re.findall(r"!Ref (\w+)|\$\{(\w+)\}", (LAMBDA / "template.yaml").read_text()))
    known = {*template["Parameters"], *template["Resources"], "ServerlessHttpApi"}
    assert {first or second for first, second in references} <= known


def test_worker_answers_with_the_customer_s_orders(node: str, gateway: Gateway, shop: Database, tmp_path: Path) -> None:
    script = f"""
    import worker from './src/index.js'
    const env = {json.dumps({"SQLHTTP_ENDPOINT": gateway.sql, "DATABASE_URL": shop.url})}
    const orders = await worker.fetch(new Request("https://w.example/customers/O'Hara%20%26%20Co/orders"), env)
    const missing = await worker.fetch(new Request('https://w.example/else'), env)
    console.log(JSON.stringify([orders.status, await orders.json(), missing.status]))
    """
    assert run_node(node, WORKER, script, tmp_path) == [200, ORDERS, 404]


def test_worker_s_configuration_names_its_code_and_what_that_reads() -> None:
    text = (WORKER / "wrangler.toml").read_text()
    configuration = tomllib.loads(text)
    code = (WORKER / configuration["main"]).read_text()
    secrets = set(re.findall(r"secret put (\w+)", text))
    assert set(re.findall(r"env\.(\w+)", code)) == set(configuration["vars"]) | secrets
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", configuration["compatibility_date"])


def test_next_js_reads_orders_and_writes_one_with_its_note(
    node: str, gateway: Gateway, shop: Database, tmp_path: Path
) -> None:
    script = """
    import { GET, POST } from './app/api/customers/[customer]/orders/route.js'
    const params = Promise.resolve({ customer: "O'Hara & Co" })
    const read = await GET(new Request('https://n.example/'), { params })
    const body = JSON.stringify({ total: '3.25', note: 'urgent' })
    const written = await POST(new Request('https://n.example/', { method: 'POST', body }), { params })
    const failed = POST(new Request('https://n.example/', { method: 'POST', body: '{"total": 1}' }), { params })
    const code = await failed.then(() => 'none', error => error.code)
    console.log(JSON.stringify([read.status, await read.json(), written.status, await written.json(), code]))
    """
    environment = {"DATABASE_URL": shop.url, "SQLHTTP_ENDPOINT": gateway.sql}
    read = run_node(node, NEXT, script, tmp_path, **environment)
    assert read == [200, ORDERS, 201, {"id": 4}, "23502"]
    counts = shop.psql("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM notes)")
    assert counts.strip() == "4|1", "an order whose note was refused is not there"


@pytest.mark.parametrize("folder", [WORKER, NEXT], ids=lambda folder: folder.name)
def test_package_asks_for_the_driver_that_the_tests_have_tried(folder: Path) -> None:
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]["@neondatabase/serverless"]
    tried = json.loads((CONTRACT / "package.json").read_text())["dependencies"]["@neondatabase/serverless"]
    assert wanted.removeprefix("^").split(".")[0] == tried.split(".")[0]
