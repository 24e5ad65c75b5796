"""Benchmarks of scale for airspeed velocity (asv), at sizes that take minutes in all.

    asv run --config benchmarks/asv.conf.json --python=same --quick

Each class also runs as a test at the sizes in its ``tiny`` (tests/test_benchmarks.py). ``setup``
and the methods take one of each of ``params``; change those to measure at other sizes.
"""

import sys
from pathlib import Path

# asv imports this folder as a package; the modules it measures lie one folder up
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
