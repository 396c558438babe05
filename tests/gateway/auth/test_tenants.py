"""Names that lead somewhere: which host or database means whom, and which goes first."""

import pytest
from pydantic import SecretStr

from sqlhttp_gateway.auth.tenants import Names, Tenant, Tenants, tenants_from_settings
from sqlhttp_gateway.errors import GatewayError, InvalidConnectionString, TargetUnavailable
from sqlhttp_gateway.model import Allowance
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import Settings, TargetSettings, TenantSettings

TARGETS = Targets(
    Settings(
        database_url=SecretStr("postgres://admin:own@db/main"),
        targets={"two": TargetSettings(url=SecretStr("postgres://admin:own@other/main"))},
    )
)
ACME = Tenant("acme", hosts=("acme.example",), databases=("acme", "shop"), target="two", database="acme_prod")
ALL = Tenant("all", hosts=("*.db.example",), database="tenant_{name}")


async def leads(text: str, host: str = "", *tenants: Tenant) -> tuple[str, str]:
    dsn, upstream, _ = await Tenants(tenants or (ACME, ALL)).resolve(dsn_from_header(text.encode()), host, TARGETS)
    return upstream.target.name, dsn.database


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("postgres://u:p@acme.example/any", "", ("two", "acme_prod")),
        ("postgres://u:p@ACME.Example/any", "", ("two", "acme_prod")),
        ("postgres://u:p@db/any", "acme.example", ("two", "acme_prod")),
        ("postgres://u:p@db/any", "acme.example:4444", ("two", "acme_prod")),
        ("postgres://u:p@db/shop", "", ("two", "acme_prod")),
        ("postgres://u:p@blue.db.example/any", "", ("default", "tenant_blue")),
        ("postgres://u:p@x/any", "Red.DB.example", ("default", "tenant_red")),
        # of the three names the connection string's host goes first, and the database's last
        ("postgres://u:p@blue.db.example/acme", "acme.example", ("default", "tenant_blue")),
        ("postgres://u:p@db/acme", "blue.db.example", ("default", "tenant_blue")),
        # whoever is none of them is served as if there were none
        ("postgres://u:p@db/main", "gateway.example", ("default", "main")),
        ("postgres://u:p@two/main", "gateway.example", ("two", "main")),
        ("postgres://u:p@a.b.db.example/main", "[::1]:4444", ("default", "main")),
        ("postgres://u:p@db.example/main", ".db.example", ("default", "main")),
    ],
)
async def test_name_leads_to_a_target_and_a_database(text: str, host: str, expected: tuple[str, str]) -> None:
    assert await leads(text, host) == expected


async def test_exact_host_goes_before_a_wildcard() -> None:
    blue = Tenant("blue", hosts=("blue.db.example",), database="special")
    assert await leads("postgres://u:p@blue.db.example/x", "", ALL, blue) == ("default", "special")


async def test_target_may_be_a_template_and_has_to_be_one_that_is_known() -> None:
    by_target = Tenant("all", hosts=("*.pg.example",), target="{name}")
    assert await leads("postgres://u:p@two.pg.example/x", "", by_target) == ("two", "x")
    with pytest.raises(InvalidConnectionString, match="tenant all is on a target"):
        await leads("postgres://u:p@three.pg.example/x", "", by_target)


async def test_template_of_a_databases_name_is_filled_with_that() -> None:
    named = Tenant("shops", databases=("red", "blue"), database="shop_{name}")
    assert await leads("postgres://u:p@db/blue", "", named) == ("default", "shop_blue")


def test_of_two_tenants_with_one_name_the_first_has_it() -> None:
    meant = Names([ACME, Tenant("other", hosts=("acme.example",))]).of_host("acme.example")
    assert meant is not None
    assert meant.tenant is ACME


class Table:
    def __init__(self, *tenants: Tenant) -> None:
        self.tenants = list(tenants)
        self.fault: GatewayError | None = None
        self.reads = 0

    async def __call__(self) -> list[Tenant]:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return self.tenants


async def test_table_is_read_before_the_first_answer_and_goes_on_counting_when_it_cannot_be_read() -> None:
    table, told = Table(ALL), list[int]()
    tenants = Tenants((ACME,), table, on_change=lambda: told.append(1))
    dsn = dsn_from_header(b"postgres://u:p@blue.db.example/x")
    for _ in range(2):
        assert (await tenants.resolve(dsn, "", TARGETS))[0].database == "tenant_blue"
    assert (table.reads, told) == (1, [1])
    table.fault = TargetUnavailable("down")
    with pytest.raises(TargetUnavailable):
        await tenants._rereading.read()  # type: ignore[union-attr]  # what the clock would do
    assert (await tenants.resolve(dsn, "", TARGETS))[0].database == "tenant_blue"


async def test_who_cannot_know_the_tenants_yet_does_not_guess() -> None:
    table = Table()
    table.fault = TargetUnavailable("down")
    with pytest.raises(TargetUnavailable):
        await Tenants((), table).find("blue.db.example")


async def test_tenants_of_the_settings_go_before_the_tables() -> None:
    tenants = Tenants((ACME,), Table(Tenant("trap", hosts=("acme.example",))))
    meant = await tenants.find("acme.example:443")
    assert meant is not None
    assert meant.tenant is ACME


async def test_whose_name_it_was_is_told() -> None:
    tenants = Tenants((ACME,))
    for text, whose in (("postgres://u:p@acme.example/x", ACME), ("postgres://u:p@db/x", None)):
        assert (await tenants.resolve(dsn_from_header(text.encode()), "", TARGETS))[2] is whose


def test_settings_become_tenants_with_hosts_in_lower_case() -> None:
    [tenant] = tenants_from_settings({"a": TenantSettings(hosts=("*.DB.example",), databases=("A",), rate=5)})
    assert tenant == Tenant("a", hosts=("*.db.example",), databases=("A",), allowance=Allowance(rate=5))


@pytest.mark.parametrize("host", ["a.example:1", "*", "*.", "a*.example", "", "*.*.example", "a b"])
def test_host_that_could_never_match_is_a_fault_of_the_settings(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host"):
        TenantSettings(hosts=(host,))
