"""What is asked of a server, and what its refusal means."""

from sqlhttp_gateway.pools.client_check import PARAMETER, ClientCheck


def test_the_wish_is_told_in_milliseconds_beside_the_other_parameters() -> None:
    check = ClientCheck(0.5)
    assert check.added_to({"application_name": "sqlhttp"}) == {"application_name": "sqlhttp", PARAMETER: "500"}
    assert ClientCheck(0.0001).added_to({}) == {PARAMETER: "1"}, "0 would switch it off"


def test_whoever_sets_it_in_the_connection_string_has_that() -> None:
    given = {"options": f"-c {PARAMETER}=10s"}
    assert ClientCheck(0.5).added_to(given) == given


def test_what_was_refused_once_is_not_told_again() -> None:
    check = ClientCheck(0.5)
    assert check.take_refusal(f'unrecognized configuration parameter "{PARAMETER}"')
    assert check.added_to({}) == {}
    assert not check.take_refusal(f"{PARAMETER} again"), "a second refusal is another fault"


def test_other_errors_are_no_refusal() -> None:
    check = ClientCheck(0.5)
    assert not check.take_refusal("sorry, too many clients already")
    assert PARAMETER in check.added_to({})
