"""The program: it imports what it is made of where Ctrl-C ends it in silence, and runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nsedge.cli import starting


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; `words` are the arguments, the process's own by default."""
    with starting.importing():
        run = importlib.import_module("nsedge.cli.program").prepared(words)
    return int(run())


if __name__ == "__main__":
    sys.exit(main())
