import pytest

from sqlhttp_gateway.reads.functions import Function, Meaning


def builtin(name: str, volatility: str) -> Function:
    return Function("pg_catalog", name, volatility, "internal", is_builtin=True, definition="")


def own(body: str, *, volatility: str = "s", language: str = "plpgsql", name: str = "f") -> Function:
    return Function("public", name, volatility, language, is_builtin=False, definition=body)


def meaning(*functions: Function) -> Meaning:
    found = Meaning()
    for function in functions:
        found.add(function)
    return found


@pytest.mark.parametrize("name", ["lower", "count", "current_setting", "to_char", "date_trunc", "pg_get_viewdef"])
def test_functions_of_postgres_that_give_the_same_again_say_nothing(name: str) -> None:
    assert meaning(builtin(name, "s")) == Meaning()


@pytest.mark.parametrize("name", ["now", "statement_timestamp", "clock_timestamp", "age"])
def test_functions_of_time(name: str) -> None:
    assert meaning(builtin(name, "s")).clock == name


@pytest.mark.parametrize(("name", "volatility"), [("random", "v"), ("nextval", "v"), ("pg_backend_pid", "s")])
def test_functions_that_give_something_else_each_time_and_write_no_table(name: str, volatility: str) -> None:
    found = meaning(builtin(name, volatility))
    assert (found.volatile, found.writer) == (name, "")


@pytest.mark.parametrize("name", ["pg_stat_get_activity", "inet_client_addr", "table_to_xml", "txid_current_snapshot"])
def test_stable_functions_that_speak_of_a_session_or_server_are_not_the_same_again(name: str) -> None:
    assert meaning(builtin(name, "s")).volatile == name


def test_volatile_function_of_a_user_may_write() -> None:
    assert meaning(own("", volatility="v")).writer == "f"
    assert meaning(builtin("lo_unlink", "v")).writer == "lo_unlink"


def test_immutable_function_of_a_user_is_believed() -> None:
    assert meaning(own("SELECT now()", volatility="i")) == Meaning()


def test_stable_function_of_a_user_is_read() -> None:
    found = meaning(own("BEGIN RETURN (SELECT count (*) FROM t WHERE app.g(x) AND a /* h() */ = 1); -- i()\nEND"))
    assert found.hides
    assert {"count", "g"} <= found.callees
    assert not {"h", "i"} & found.callees
    assert meaning(own("RETURN CURRENT_TIMESTAMP")).clock == "f"
    assert meaning(own("RETURN 'today'::date")).clock == "f"
    assert meaning(own("RETURN '{today}'::date[]")).clock == "f"


@pytest.mark.parametrize(
    "code",
    [
        "RETURN '--' || g(1);",
        "RETURN '/*' || g(1);",
        r"RETURN E'\'--' || g(1);",
        "RETURN $x$--$x$ || g(1);",
        "/* /* */ ' */ RETURN '--' || g(1); -- '",
        "-- don't\nRETURN '--' || g(1);",
        "EXECUTE 'SELECT g(1)';",
    ],
)
def test_what_looks_like_a_comment_in_a_literal_hides_nothing(code: str) -> None:
    header = "CREATE OR REPLACE FUNCTION public.f(a text DEFAULT 'x'::text)\n LANGUAGE plpgsql\n STABLE\n"
    found = meaning(own(f"{header}AS $function$BEGIN {code} END$function$\n"))
    assert "g" in found.callees
    clock = meaning(own(f"{header}AS $function$BEGIN {code.replace('g(1)', 'LOCALTIME')} END$function$\n"))
    assert clock.clock == "f"


def test_function_that_cannot_be_read_is_not_trusted_unless_it_is_native() -> None:
    assert meaning(own("", language="plpython3u")).volatile == "f"
    native = meaning(own("", language="c"))
    assert (native.volatile, native.hides) == ("", True)
    aggregate = Function("public", "agg", "i", "internal", is_builtin=False, definition="", is_unreadable=True)
    assert meaning(aggregate).writer == "agg"


def test_the_gateways_own_reading_of_claims_is_known() -> None:
    assert meaning(Function("sqlhttp", "claims", "s", "plpgsql", is_builtin=False, definition="now()")) == Meaning()
