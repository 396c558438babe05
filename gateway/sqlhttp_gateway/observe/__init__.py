"""Observers: what happened, as log lines. Nothing here changes what happens."""
