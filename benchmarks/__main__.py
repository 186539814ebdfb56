"""``python -m benchmarks [names…] [--quick] [--json] [--folder DIR]``."""

import argparse
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import BENCHMARKS
from benchmarks.figures import Figure, Options, table


def main() -> int:
    """Run what was asked for and print one table; status 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME",
                        help=f"which of: {', '.join(BENCHMARKS)} (default: all)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a tenth of the work or less")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", help="put the data below this folder (default: the system's)")
    arguments = parser.parse_args()

    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        folder = Path(tempfile.mkdtemp(prefix=f"heliometer-{name}-", dir=arguments.folder))
        started = time.monotonic()
        try:
            module = importlib.import_module(BENCHMARKS[name])
            figures += module.run(Options(folder, arguments.quick))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)

    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load included"
    if arguments.json:
        print(json.dumps({"machine": machine, "figures": [f.to_dict() for f in figures]}, indent=1))
    else:
        print(f"\n{machine}{', quick' if arguments.quick else ''}\n\n{table(figures)}")
    return 1 if any(f.result == "MISSED" for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
