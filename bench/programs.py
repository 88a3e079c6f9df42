"""Small C programs, compiled for this machine where it has a compiler."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def compiled(source: Path) -> Iterator[Path | None]:
    """The program made of `source`, as long as it is needed; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, source.stem)
        options = ["-O3", "-march=native", "-pthread", "-o", str(program)]
        subprocess.run([compiler, *options, str(source)], check=True)
        yield program
