"""The arguments of `sqlhttp idempotency`. What it does is in `idempotency.command`."""

import argparse

from sqlhttp_gateway.place_arguments import add_place


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Add the command; answers the parsers that also take settings."""
    idempotency = commands.add_parser("idempotency", help="make the table for Idempotency-Key")
    steps = idempotency.add_subparsers(dest="action", required=True, metavar="ACTION")
    step = steps.add_parser(
        "install",
        help="make the table, or bring it up to date",
        description="Make the table of idempotency keys, schema sqlhttp, with its two functions, or bring them up to\n"
        "date. The gateway does so itself at the first key, where its role may and idempotency.create allows it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_place(step)
    return [step]
