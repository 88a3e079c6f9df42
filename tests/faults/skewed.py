"""The daemon on a wall clock that jumps: a file holds the seconds that are added to it."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

OFFSET = Path(sys.argv.pop(1))
_wall = time.time


def skewed() -> float:
    return _wall() + float(OFFSET.read_text(encoding="ascii"))


time.time = skewed
runpy.run_module("nsedge", run_name="__main__")
