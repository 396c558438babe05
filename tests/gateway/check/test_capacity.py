import pytest

from sqlhttp_gateway.check.capacity import Deployment, capacity, most_connections, products, share
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.settings import Settings, load_settings


def settings(**sections: object) -> Settings:
    return load_settings(**sections)


def judged(instances: int, max_total: int, *, max_connections: int = 100, buffer: int = 5) -> Finding:
    return capacity(
        settings(pool={"max_total": max_total}),
        max_connections=max_connections,
        reserved=3,
        deployment=Deployment(instances, buffer),
    )


@pytest.mark.parametrize(
    ("limit", "instances", "buffer", "expected"), [(97, 1, 5, 92), (97, 2, 5, 43), (97, 3, 0, 32), (10, 4, 5, -3)]
)
def test_share_is_the_floor_of_the_division_less_the_buffer(
    limit: int, instances: int, buffer: int, expected: int
) -> None:
    assert share(limit, Deployment(instances, buffer)) == expected


def test_gateway_takes_what_its_workers_may_together_and_one_to_watch() -> None:
    assert most_connections(settings(pool={"max_total": 50})) == 51
    assert most_connections(settings(pool={"max_total": 50}, watch={"interval": 0})) == 50
    assert most_connections(settings(pool={"max_total": 50}, listen={"workers": 4})) == 49


def test_gateway_takes_one_more_for_each_worker_that_looks_for_the_primary() -> None:
    four = settings(pool={"max_total": 48}, listen={"workers": 4})
    assert most_connections(four, is_probed=True) == 48 + 1 + 4
    finding = capacity(four, max_connections=60, reserved=3, deployment=Deployment(), is_probed=True)
    assert "is 48 and 1 to watch it and 4 to see which server is the primary." in finding.text
    assert finding.remedy.startswith("Set pool.max_total to 47,")


def test_gateway_within_its_share_is_fine_and_the_numbers_are_shown() -> None:
    finding = judged(2, 42)
    assert finding.level is Level.OK
    assert finding.text == (
        "floor(97 / 2) - 5 = 43 connections for each of 2 gateway(s): max_connections is 100, of which 3 are reserved. "
        "A gateway opens at most 43: pool.max_total is 42 and 1 to watch it."
    )


def test_gateway_above_its_share_is_a_warning_with_the_size_that_fits() -> None:
    finding = judged(2, 43)
    assert finding.level is Level.WARNING
    assert finding.remedy == "Set pool.max_total to 42, or raise max_connections by 2."
    assert judged(2, 42).level is Level.OK
    assert judged(2, 43, max_connections=102).level is Level.OK, "the remedy's other half"


def test_gateways_that_could_take_every_connection_are_an_error() -> None:
    assert judged(2, 47).level is Level.WARNING
    assert judged(2, 48).level is Level.ERROR


def test_too_many_gateways_are_told_so() -> None:
    assert (
        judged(20, 10).remedy
        == "There are too few connections for so many gateways: run fewer, or raise max_connections."
    )


def test_product_over_workers_is_printed_with_what_the_division_loses() -> None:
    finding = products(settings(listen={"workers": 3}))
    assert finding.text == ("3 worker(s) x 3 connections = 9 to one database and role, 3 x 16 = 48 over all pools.")
    assert (finding.level, finding.remedy) == (
        Level.NOTE,
        "1 of pool.max_size are lost to the division: make it a multiple of listen.workers.",
    )
    assert products(settings(listen={"workers": 5})).level is Level.OK
