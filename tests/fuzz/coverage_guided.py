"""`make fuzz`: atheris, guided by coverage, on what reads the bytes of strangers.

The targets are those of `targets`. Seeds are in `corpus`, a folder a target; what atheris adds goes to the first folder
that is named. Arguments are the target's name and libFuzzer's own.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sqlhttp_gateway"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: make fuzz TARGET={'|'.join(TARGETS)} [RUNS=1000000]")
    name = sys.argv.pop(1)
    atheris.Setup([*sys.argv, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
