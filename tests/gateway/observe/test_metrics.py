from sqlhttp_gateway.events import (
    Bug,
    Cancelled,
    Closed,
    KeyShown,
    Leaked,
    Opened,
    TunnelClosed,
    TunnelOpened,
    TunnelPinned,
    Unsent,
)
from sqlhttp_gateway.observe.counts import Counts, DatabaseCounts
from sqlhttp_gateway.observe.metrics import Metrics
from tests.support.answered import answered


def counted(*events: object, max_labels: int = 50) -> Counts:
    metrics = Metrics(max_labels)
    for event in events:
        metrics(event)  # type: ignore[arg-type]
    return metrics.counts()


def test_request_is_counted_for_its_database_with_its_times_bytes_and_rows() -> None:
    [(key, counts)] = counted(answered(), answered(rows=2, parsed=1, reused=0)).databases.items()
    assert key == ("default", "main")
    assert counts.outcomes == {"ok": 2}
    assert (counts.statements, counts.executed, counts.rows) == (2, 2, 3)
    assert (counts.parsed, counts.reused) == (1, 1)
    assert (counts.bytes_in, counts.bytes_out) == (100, 400)
    for histogram in (counts.request_seconds, counts.wait_seconds, counts.query_seconds):
        assert sum(histogram.counts) == 2
    assert sum(counts.transaction_seconds.counts) == 0


def test_batch_counts_as_a_transaction_and_not_as_a_query() -> None:
    [counts] = counted(answered(is_batch=True, statements=5)).databases.values()
    assert sum(counts.transaction_seconds.counts) == 1
    assert sum(counts.query_seconds.counts) == 0
    assert (counts.statements, counts.executed) == (5, 1)


def test_request_that_gave_up_waiting_counts_its_wait_and_no_query() -> None:
    total = counted(answered(status=503, outcome="pool", reason="WaitTimeout", waited=5.0, executed=0.0))
    [counts] = total.databases.values()
    assert counts.outcomes == {"pool": 1}
    assert counts.wait_seconds.sum == 5.0
    assert (counts.statements, counts.executed, sum(counts.query_seconds.counts)) == (0, 0, 0)
    assert total.refusals == {"WaitTimeout": 1}


def test_error_of_postgres_is_counted_by_its_class_and_is_no_refusal() -> None:
    total = counted(answered(status=400, outcome="postgres", sqlstate="42P01", reason="PostgresError"))
    assert total.sqlstate_classes == {"42": 1}
    assert total.refusals == {}


def test_error_codes_that_programs_make_up_fill_a_bounded_number_of_series() -> None:
    codes = [f"{first}{second}000" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJ"]
    classes = counted(*(answered(outcome="postgres", sqlstate=code) for code in codes)).sqlstate_classes
    assert len(classes) == 65
    assert classes["other"] == 36


def test_stranger_who_names_databases_makes_no_series_for_them() -> None:
    strangers = [
        answered(outcome="auth", reason="PasswordFailed", database=f"made-up-{number}", is_proven=False)
        for number in range(10)
    ]
    total = counted(*strangers)
    assert list(total.databases) == [("", "")]
    assert total.databases["", ""].outcomes == {"auth": 10}


def test_databases_beyond_the_limit_are_counted_together() -> None:
    total = counted(*(answered(database=f"tenant_{number % 5}") for number in range(10)), max_labels=2)
    assert {name: sum(each.outcomes.values()) for (_, name), each in total.databases.items()} == {
        "tenant_0": 2,
        "tenant_1": 2,
        "other": 6,
    }


def test_what_happens_to_connections_is_counted_by_what_it_is() -> None:
    total = counted(
        Opened("default/main/app", 0.01),
        Closed("default/main/app", "idle"),
        Closed("default/main/app", "idle"),
        Closed("default/main/app", "broken"),
        Cancelled("default/main/app", confirmed=True),
        Cancelled("default/main/app", confirmed=False),
        Leaked("default/main/app"),
        Bug("id", ValueError()),
        Unsent("deadline", "the program took nothing", "id", "127.0.0.1"),
    )
    assert total.unsent == {"deadline": 1}
    assert sum(total.opened.counts) == 1
    assert total.closed == {"idle": 2, "broken": 1}
    assert (total.cancels, total.cancels_confirmed, total.leaked, total.bugs) == (2, 1, 1, 1)


def test_worker_goes_on_where_the_one_before_it_stopped() -> None:
    before = Counts(cpu_seconds=100.0)
    before.databases["default", "main"] = DatabaseCounts(outcomes={"ok": 7})
    metrics = Metrics(1, before=before)
    metrics(answered())
    metrics(answered(database="second"))
    total = metrics.counts()
    assert total.databases["default", "main"].outcomes == {"ok": 8}
    assert ("default", "other") in total.databases, "the label that the one before used is still used up"
    assert total.cpu_seconds > 100
    assert before.databases["default", "main"].outcomes == {"ok": 7}


def test_tunnels_are_counted_by_door_outcome_and_pin() -> None:
    counts = counted(
        TunnelOpened("tcp"),
        TunnelOpened("tcp"),
        TunnelClosed("tcp", "auth", "28P01", "", "", 0.1),
        TunnelPinned("default/app/ada", "temporary_object"),
        KeyShown(True),
        KeyShown(False),
    )
    assert (counts.tunnels_opened, counts.tunnels_closed) == ({"tcp": 2}, {"auth": 1})
    assert (counts.pins, counts.keys_shown, counts.keys_unknown) == ({"temporary_object": 1}, 2, 1)
