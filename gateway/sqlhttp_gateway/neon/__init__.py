"""The Neon protocol as values: headers, bodies and JSON in, values out, and back. Nothing here waits."""
