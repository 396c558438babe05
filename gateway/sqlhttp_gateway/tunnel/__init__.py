"""Postgres's own wire for programs: log-in, then transactions over backends that are only borrowed."""
