"""`--target` and `--database`, as all commands that work in one database take them. Who goes there is elsewhere."""

import argparse


def add_place(parser: argparse.ArgumentParser) -> None:
    """Let the command say where it works: `target` by name, and `database`, None for that of the target."""
    parser.add_argument("--target", default="default", help="the target (default)")
    parser.add_argument("--database", help="the database; without it, that of the target's connection string")
