"""Train small models, serve them, and tell what they understand: python -m exporters.meaning."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from exporters.cache import Cache, cache_root
from exporters.meaning.clip import measure
from exporters.meaning.small_clip import SHORT, WHOLE_COURSE
from exporters.progress import Progress
from nsedge.process import console


def main() -> int:
    """Measure; 1 where too little is understood."""
    parser = argparse.ArgumentParser(prog="python -m exporters.meaning", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute of training")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    arguments = parser.parse_args()
    cache = Cache(cache_root(), Progress(sys.stderr))
    result = measure(cache, SHORT if arguments.short else WHOLE_COURSE)
    text = msgspec.json.format(msgspec.json.encode(result), indent=1).decode()
    if arguments.json is not None:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    console.say(*text.splitlines())
    if not result.passed:
        console.note(
            f"too little is understood: {result.demanded:.0%} of colours and of shapes, at least"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
