"""Facts about this machine, from where Linux tells them; those it does not tell are left out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TEGRA_RELEASE = Path("/etc/nv_tegra_release")
MEMORY = Path("/proc/meminfo")
DRIVER = Path("/proc/driver/nvidia/version")
SMI_TIMEOUT_S = 10.0


def memory_bytes(path: Path = MEMORY) -> dict[str, int]:
    """Memory by the kernel's own names, such as MemTotal and MemAvailable."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(count) * 1024 for name, count, _ in pairs}


def tegra_release(path: Path = TEGRA_RELEASE) -> str | None:
    """The Jetson's release line; None on other machines. NVML does not work there."""
    try:
        return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    except (OSError, IndexError):
        return None


def gpus() -> list[str]:
    """Name, driver and memory of every NVIDIA GPU that nvidia-smi sees."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader"]
    try:
        said = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.stdout.splitlines() if line.strip()]


def has_driver(path: Path = DRIVER) -> bool:
    """Whether NVIDIA's kernel driver is loaded."""
    return path.exists()
