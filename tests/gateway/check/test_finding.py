import json

from sqlhttp_gateway.check.finding import WIDTH, Finding, Level, as_json, as_text, exit_status

FINE = Finding("version", Level.OK, "Postgres 18.1.")
BAD = Finding("listening", Level.WARNING, "On 0.0.0.0, everybody reaches it.", "Put TLS in front.")
WORSE = Finding("reachable", Level.ERROR, "No connection. " * 20, "Start Postgres.")


def test_text_has_level_subject_and_remedy_and_ends_with_the_sum() -> None:
    assert as_text([FINE, BAD]).splitlines() == [
        "ok       version    Postgres 18.1.",
        "warning  listening  On 0.0.0.0, everybody reaches it.",
        "                    -> Put TLS in front.",
        "",
        "1 warning, 1 right.",
    ]


def test_long_text_is_wrapped_beside_its_subject() -> None:
    lines = as_text([WORSE]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith(" " * 20) for line in lines[1:3])


def test_sum_counts_each_level_the_worst_first() -> None:
    assert as_text([FINE, WORSE, BAD, WORSE, FINE]).splitlines()[-1] == "2 errors, 1 warning, 2 right."


def test_json_has_everything_and_says_whether_all_is_well() -> None:
    shown = json.loads(as_json([FINE, WORSE], version="1.2.3"))
    assert (shown["version"], shown["ok"]) == ("1.2.3", False)
    assert shown["findings"][0] == {"subject": "version", "level": "ok", "text": "Postgres 18.1.", "remedy": ""}


def test_only_an_error_fails_the_check() -> None:
    assert exit_status([FINE, BAD]) == 0
    assert exit_status([FINE, BAD, WORSE]) == 1
