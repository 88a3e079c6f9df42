"""The common parts of benchmark results: machine, versions, percentiles, noise."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nsedge.runtime.machine.cores import usable_cores
from nsedge.version import VERSION

PACKAGES = ("onnxruntime-gpu", "numpy", "tokenizers", "pyzmq", "msgpack", "aiohttp")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """The processor, its vector units, cores, memory and versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    entries = {key.strip(): value.strip() for key, value in lines.items()}
    flags = entries.get("flags", "").split()
    return {
        "cpu": entries.get("model name", platform.processor()),
        "family_model": f"{entries.get('cpu family')}/{entries.get('model')}",
        "vector": [f for f in flags if f.startswith(("avx", "amx"))],
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "nsedge": VERSION,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99; empty where there is nothing."""
    array = np.fromiter(values, np.float64)
    if not array.size:
        return {}
    marks = (50, 95, 99)
    return {f"p{m}": float(v) for m, v in zip(marks, np.percentile(array, marks), strict=True)}


class Noise:
    """The processor time that others took, between two readings."""

    def __init__(self) -> None:
        self._began = _busy_s(), own_cpu_s(), time.perf_counter()

    def others(self) -> float:
        """Cores' worth of work, since this was made, by processes that are neither this one nor
        its descendants."""
        busy_s, own_s, at_s = self._began
        others_s = _busy_s() - busy_s - (own_cpu_s() - own_s)
        return max(0.0, others_s / (time.perf_counter() - at_s))


def _busy_s() -> float:
    """Processor time taken by anybody, this machine's host included, since it started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split()[1:9]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
    return (user + nice + system + irq + soft + steal) / _TICKS_PER_S


def own_cpu_s() -> float:
    """Processor time of this process, its living descendants and those that it waited for."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    own = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= found
    return sum(ticks.get(pid, 0) for pid in own) / _TICKS_PER_S


def emit(result: dict[str, Any], file: Path | None) -> None:
    """Write the whole result as JSON to `file`, or to standard output."""
    text = json.dumps({"machine": machine(), **result}, indent=2)
    if file is None:
        print(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")


def chosen_of(options: argparse.Namespace) -> dict[str, str]:
    """The options of a run as texts; of paths their names alone: a result names no machine's."""
    return {
        key: value.name if isinstance(value, Path) else str(value)
        for key, value in vars(options).items()
    }


def say(line: str) -> None:
    """A line for people, apart from the JSON."""
    print(line, file=sys.stderr, flush=True)


def parser(doc: str | None, *, bundle: bool = True) -> argparse.ArgumentParser:
    """Options that every benchmark has; `bundle`: whether it runs one."""
    made = argparse.ArgumentParser(description=doc)
    if bundle:
        made.add_argument("--bundle", type=Path, required=True, help="a bundle's directory")
    made.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are told")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    return made
