"""Every benchmark of scale, one after the other, into tables and figures of docs/.

    python benchmarks/scale.py --write

Runs ``patch_memory.py``, ``throughput.py``, ``scheduling.py`` and ``scaling.py`` as they run by
themselves; ``--only`` picks some of them. ``--quick`` runs all at sizes that say nothing, to see
that they run; it writes nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import patch_memory
import scaling
import scheduling
import throughput

PARTS: dict[str, Callable[[bool], None]] = {
    "patch_memory": lambda write: patch_memory.report(write=write),
    "throughput": lambda write: throughput.report(write=write),
    "scheduling": lambda write: scheduling.report(write=write),
    "scaling": lambda write: scaling.report(write=write),
}
QUICK: dict[str, Callable[[], None]] = {
    "patch_memory": lambda: patch_memory.report(
        write=False, sides=(96, 128), patch_sizes=(1, 7), seconds=4.0
    ),
    "throughput": lambda: throughput.report(write=False, sides=(256, 512), repeats=1),
    "scheduling": lambda: scheduling.report(
        write=False, tasks=2000, side=2048, scene_side=1024, workers=1
    ),
    "scaling": lambda: scaling.report(write=False),
}


def main() -> None:
    """Run what is asked for, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--write", action="store_true", help="update docs/")
    how.add_argument("--quick", action="store_true", help="tiny sizes, nothing written")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    for name in arguments.only:
        start = time.perf_counter()
        print(f"== {name}", flush=True)
        if arguments.quick:
            QUICK[name]()
        else:
            PARTS[name](arguments.write)
        print(f"== {name} took {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
