"""The file that usage is kept in over restarts."""

from __future__ import annotations

from pathlib import Path

from nsedge.process.state_file import StateFile
from nsedge.runtime.residency.usage import History


class UsageFile(StateFile[History]):
    """Reads and writes a `History`."""

    def __init__(self, path: Path | None) -> None:
        """None keeps nothing."""
        super().__init__(path, kind=History, fresh=History, what="usage statistics")
