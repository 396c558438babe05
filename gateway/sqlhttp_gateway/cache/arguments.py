"""The arguments of `sqlhttp cache`. What it does is in `cache_watch`."""

import argparse

from sqlhttp_gateway.place_arguments import add_place


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
            description="A trigger on TABLE and its partitions notifies every gateway of what is written to them,\n"
            "past the gateways, too. To be run again when a partition was added.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        step.add_argument("table", metavar="TABLE", help="its name, with its schema if that is not on the search path")
        add_place(step)
        parsers.append(step)
    return parsers
