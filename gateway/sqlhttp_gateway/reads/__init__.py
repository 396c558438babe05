"""What a statement reads and writes: told by Postgres's plan of it and by the catalog, never guessed from its text."""
