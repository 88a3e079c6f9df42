"""Train small models, serve them, and tell what they understand: python -m exporters.meaning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from exporters.cache import Cache, cache_root
from exporters.meaning import captioner, clip, small_clip, vqa
from exporters.meaning.results import Measured, MeasuredAnswers
from exporters.progress import Progress
from nsedge.process import console

MODELS: dict[str, tuple[Callable[..., Measured | MeasuredAnswers], Any, Any]] = {
    "clip": (clip.measure, small_clip.SHORT, small_clip.WHOLE_COURSE),
    "captioner": (captioner.measure, captioner.SHORT, captioner.WHOLE_COURSE),
    "vqa": (vqa.measure, vqa.SHORT, vqa.WHOLE_COURSE),
}
"""What measures each, and its courses."""


def main() -> int:
    """Measure; 1 where too little is understood."""
    parser = argparse.ArgumentParser(prog="python -m exporters.meaning", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute of training each")
    parser.add_argument("--only", choices=MODELS, help="one of them, in the place of all")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="put what is found there, too, in its place"
    )
    arguments = parser.parse_args()
    cache = Cache(cache_root(), Progress(sys.stderr))
    found: dict[str, Measured | MeasuredAnswers] = {}
    for name in [arguments.only] if arguments.only else MODELS:
        measure, short, whole = MODELS[name]
        found[name] = measure(cache, short if arguments.short else whole)
    console.say(*_text(found).splitlines())
    if arguments.json is not None:
        known = msgspec.json.decode(arguments.json.read_bytes()) if arguments.json.exists() else {}
        arguments.json.write_text(f"{_text(known | found)}\n", encoding="utf-8")
    poor = [name for name, one in found.items() if not one.passed]
    for name in poor:
        console.note(f"{name}: too little is understood: {found[name].wanted}")
    return 1 if poor else 0


def _text(found: object) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode()


if __name__ == "__main__":
    sys.exit(main())
