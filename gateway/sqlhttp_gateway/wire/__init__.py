"""The Postgres protocol, version 3, as values: bytes in, messages out, and back. Nothing here waits."""
