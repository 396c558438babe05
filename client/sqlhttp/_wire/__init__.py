"""As much of Postgres's protocol 3.0 as a client needs behind a WebSocket. Bytes and values; nothing here waits."""
