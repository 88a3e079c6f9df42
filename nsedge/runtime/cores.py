"""How many cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores by affinity, bounded by the cgroup's CPU quota; at least 1."""
    try:
        affine = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        affine = os.cpu_count() or 1
    return max(1, min(affine, _quota_cores(_CGROUP) or affine))


def _quota_cores(path: Path) -> int | None:
    """The quota of a cgroup v2 `cpu.max` file in whole cores, None where there is none."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else math.ceil(int(quota) / int(period))
