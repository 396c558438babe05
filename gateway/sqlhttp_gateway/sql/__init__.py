"""What answering `/sql` takes, one job a file; `service` says in which order."""
