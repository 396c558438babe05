"""The arguments of `sqlhttp cache`. What it does is in `cache_watch`."""

import argparse


def add_cache_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> list[argparse.ArgumentParser]:
    """Add the command; answers the parsers that also take settings."""
    cache = commands.add_parser("cache", help="have tables tell the result cache of their changes")
    steps = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = []
    for name, does in (("watch", "give a table a trigger that does"), ("unwatch", "take the trigger away again")):
        step = steps.add_parser(
            name,
            help=does,
            description="A trigger on TABLE notifies every gateway of what is written to it, past the gateways, too.",
        )
        step.add_argument("table", metavar="TABLE", help="its name, with its schema if that is not on the search path")
        step.add_argument("--target", default="default", help="the target (default)")
        step.add_argument("--database", help="the database; without it, that of the target's connection string")
        parsers.append(step)
    return parsers
