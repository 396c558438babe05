"""The incident in its short form: the alerts come before the first refusal, and the bound holds throughout."""

from tests.bench.incident import Fired, Script, Story, play, told

SHORT = Script(
    programs=210, pool=4, max_connections=20, wave=30, pause=0.5, look=0.2, wait_timeout=2.5, forgotten=11, last=40.0
)


def test_whoever_is_on_call_hears_of_it_before_the_first_program_is_refused() -> None:
    story = play(SHORT)
    assert story.first_refusal is not None
    assert story.backends <= SHORT.pool
    assert {each.name for each in story.fired} >= {"pool_wait", "connections", "idle_in_transaction"}
    lead = story.lead("pool_wait")
    assert lead is not None
    assert lead > 0
    assert "came free within 2.5 s" in story.reason


def test_the_table_has_a_line_for_each_alert_with_its_lead() -> None:
    story = Story([Fired(2.0, "connections", "warning", "19 of 27", 90)], 11.5, 300, "no connection", 7, 3, 10)
    text = told(story)
    assert "| connections, warning | 2.0 s | 90 | 9.5 s | 19 of 27 |" in text
    assert "after 11.5 s, with 300 programs:" in text
    assert story.lead("connections") == 9.5
    assert story.lead("waiting") is None
    assert "Nobody was refused." in told(Story())
