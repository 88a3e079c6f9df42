"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.cache import home
from exporters.commands import SUCCESS, Answer
from exporters.recipe import Report
from exporters.report import export_lines, export_result
from exporters.schemes import SCHEMES, Device, KvFormat


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_export_options(
    parser: argparse.ArgumentParser, *, scheme: str | None, unsaid: str = "%(default)s"
) -> None:
    """Where a bundle goes, and how its weights and its cache are kept.

    `unsaid` tells what is taken where no scheme is named.
    """
    parser.add_argument(
        "--out", type=Path, help="where to put the bundle (default: $NSEDGE_HOME/bundles/NAME)"
    )
    parser.add_argument(
        "--scheme",
        default=scheme,
        choices=SCHEMES,
        help=f"(default: {unsaid}) "
        + "; ".join(f"{scheme.name}: {scheme.about}" for scheme in SCHEMES.values()),
    )
    parser.add_argument(
        "--kv",
        default=KvFormat.FLOAT32.value,
        choices=[kv.value for kv in KvFormat],
        help="the key and value cache: int8 is a quarter of the memory, at a small loss",
    )
    parser.add_argument(
        "--device",
        default=Device.CPU.value,
        choices=[device.value for device in Device],
        help="what to make it for: cuda computes in float16 (not run on a GPU yet)",
    )
    parser.add_argument("--force", action="store_true", help="replace whatever is at --out")
    add_json(parser)


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is less.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def place(arguments: argparse.Namespace, name: str) -> Path:
    """Where the bundle `name` goes."""
    out: Path = arguments.out or home() / "bundles" / name
    return out.expanduser().absolute()


def exported(report: Report) -> Answer:
    """What an export tells."""
    return export_result(report), export_lines(report), SUCCESS
