"""Runs a statement or a batch over a lease: everything in one write, a batch in its transaction included."""
