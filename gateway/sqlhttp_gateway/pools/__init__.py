"""Bounded pools of Postgres connections, and who may hold one."""
