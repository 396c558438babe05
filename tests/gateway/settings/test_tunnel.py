"""How programs of Postgres's own wire are treated."""

from sqlhttp_gateway.settings import load_settings
from tests.support.refused import refused


def test_roles_and_databases_have_pool_modes_of_their_own_out_of_the_same_two() -> None:
    tunnel = load_settings(tunnel={"role_pool_mode": {"app": "session"}}).tunnel
    assert (tunnel.pool_mode, tunnel.role_pool_mode) == ("transaction", {"app": "session"})
    assert refused(tunnel={"database_pool_mode": {"app": "statement"}}).startswith("tunnel.database_pool_mode.app: ")


def test_nothing_waits_for_a_program_without_a_limit() -> None:
    for name in ("startup_timeout", "send_timeout", "buffer_bytes", "max_message_bytes", "max_open"):
        assert refused(tunnel={name: 0}).startswith(f"tunnel.{name}: ")
