"""Exactly once: a write that carries an Idempotency-Key is carried out once, however often it is sent."""
