"""A gateway that lets many short-lived programs share few Postgres connections over HTTP."""

__version__ = "0.1.0"
