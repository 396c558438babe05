"""A gateway that lets many short-lived programs share few Postgres connections over HTTP."""
