"""Environments and builds of the peers, made once each and kept in the exporters' cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from exporters.cache import Cache, Inputs

Words = Sequence[object]
"""A command and its arguments: texts, paths and numbers."""


class BuildFailed(RuntimeError):
    """A peer could not be made."""


class Builder:
    """Makes what is not in the cache yet. `machine` names what native code is compiled for."""

    def __init__(self, cache: Cache, machine: str) -> None:
        self._cache = cache
        self.machine = machine

    def get(self, name: str, inputs: Inputs, make: Callable[[Path], None]) -> Path:
        """The directory `peer-NAME/KEY`; `make` fills it where it is not there.

        Raises:
            BuildFailed: a command failed; its last lines are the reason.
        """
        return self._cache.get(f"peer-{name}", inputs, title=f"Making {name}", make=make)

    def kept(self, name: str, inputs: Inputs) -> Path | None:
        """The same directory if it is there already."""
        path = self._cache.root / f"peer-{name}" / self._cache.key(inputs)
        return path if path.is_dir() else None

    def environment(self, name: str, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> Path:
        """The interpreter of a virtual environment with `wanted`; its scripts are of no use.

        An environment is moved once it is made, so that only `python -m ...` finds its way.
        """

        def make(folder: Path) -> None:
            command([sys.executable, "-m", "venv", folder])
            python = folder / "bin" / "python"
            command([python, "-m", "pip", "install", "--quiet", *wanted])
            if unwanted:
                command([python, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted])

        python = ".".join(map(str, sys.version_info[:2]))
        inputs = {"wanted": list(wanted), "unwanted": list(unwanted), "python": python}
        return self.get(f"{name}-environment", inputs, make) / "bin" / "python"

    def packages(self, name: str, wanted: Sequence[str]) -> Path:
        """A directory of packages to put before the interpreter's own, their needs left out."""

        def make(folder: Path) -> None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            command([*pip, "--target", folder, *wanted])

        return self.get(f"{name}-packages", {"wanted": list(wanted)}, make)

    def tool(self, name: str, version: str) -> Path:
        """A build tool: the machine's own, else one from its package."""
        if found := shutil.which(name):
            return Path(found)
        return self.packages(name, [f"{name}=={version}"]) / "bin" / name


def command(words: Words, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end; what it printed.

    Raises:
        BuildFailed: it did not end well.
    """
    result = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=env,
        cwd=cwd,
    )
    if result.returncode:
        last = "\n".join(result.stdout.strip().splitlines()[-15:])
        raise BuildFailed(f"{Path(str(words[0])).name} ended with {result.returncode}:\n{last}")
    return result.stdout
