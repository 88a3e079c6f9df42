"""`nsedge-export adapter`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache, home
from exporters.commands import Commands
from exporters.commands.options import add_json


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("adapter", help="package a LoRA as an add-on to a bundle")
    parser.add_argument("base", type=Path, metavar="BASE_BUNDLE")
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="a folder that peft wrote")
    parser.add_argument("--name", required=True, help="clients ask for BASE:NAME")
    parser.add_argument(
        "--out", type=Path, help="where to put it (default: $NSEDGE_HOME/bundles/BASE+NAME)"
    )
    parser.add_argument("--force", action="store_true", help="replace whatever is at --out")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Package the adapter."""
    from exporters.adapter.package import package_adapter
    from exporters.model.hub import bundle_name
    from nsedge.bundle.manifest import Bundle

    base = arguments.base.expanduser().absolute()
    name = bundle_name(arguments.name, exact=True)
    folder = f"{Bundle.open(base).name}+{name}"
    out = arguments.out or home() / "bundles" / folder
    made = package_adapter(
        base,
        arguments.adapter.expanduser().absolute(),
        name=name,
        out=out.expanduser().absolute(),
        replace=arguments.force,
    )
    manifest = made.adapter.manifest
    result = {
        "adapter": str(made.adapter.path),
        "model": made.adapter.name,
        "made": made.made,
        "bytes": made.bytes,
        "ranks": list(manifest.provenance.ranks),
        "modules": manifest.provenance.modules,
        "variants": [form.variant for form in manifest.forms],
        "left_out": made.left_out,
    }
    state = "written" if made.made else "up to date"
    ranks = ", ".join(map(str, manifest.provenance.ranks))
    lines = [
        f"{made.adapter.path}: {state}, {made.bytes / 1e6:.1f} MB",
        f"  {manifest.provenance.modules} modules, rank {ranks}; ask for {made.adapter.name}",
        f"  for the variants {', '.join(form.variant for form in manifest.forms)}",
        *(f"  not for {variant}: {why}" for variant, why in made.left_out.items()),
    ]
    return result, lines, SUCCESS
