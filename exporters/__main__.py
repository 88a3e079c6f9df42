"""nsedge-export: make a bundle of the starter model or of a model folder, and check bundles."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.cache import Cache, cache_root, home
from exporters.errors import ExportError
from exporters.progress import Progress
from exporters.schemes import DEFAULT_SCHEME, SCHEMES, STARTER_SCHEME, Device, KvFormat
from nsedge.errors import NsedgeError
from nsedge.version import VERSION

if TYPE_CHECKING:
    from exporters.recipe import Report

FAILURE = 1
USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0 is success, 1 a failure told in one line, 2 a wrong call."""
    arguments = _parser().parse_args(argv)
    progress = Progress(sys.stderr)
    cache = Cache(cache_root(), progress)
    try:
        result, lines, status = arguments.run(arguments, cache)
    except (ExportError, NsedgeError) as error:
        return _fail(str(error), as_json=arguments.json)
    except OSError as error:
        return _fail(str(error), as_json=arguments.json)
    except KeyboardInterrupt:
        return _fail("interrupted; finished stages are kept", as_json=arguments.json)
    print(json.dumps(result) if arguments.json else "\n".join(lines))
    return int(status)


def _fail(message: str, *, as_json: bool) -> int:
    line = " ".join(message.split())
    if as_json:
        print(json.dumps({"error": line}))
    print(f"nsedge-export: {line}", file=sys.stderr)
    return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nsedge-export", description=__doc__)
    parser.add_argument("--version", action="version", version=f"nsedge-export {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    starter = commands.add_parser("starter", help="make the bundle of the starter model")
    starter.add_argument(
        "--print-model-folder",
        action="store_true",
        help="only make the model folder (for fine-tuning, say) and print where it lies",
    )
    _add_export_options(starter, scheme=STARTER_SCHEME)
    starter.set_defaults(run=_starter)

    model = commands.add_parser("model", help="make a bundle of a causal LM")
    model.add_argument(
        "model", metavar="PATH_OR_HUB_ID", help="a model folder, or a hub's ORG/NAME"
    )
    model.add_argument("--name", help="the bundle's name (default: the folder's or the hub id's)")
    model.add_argument("--revision", help="branch, tag or commit on the hub")
    model.add_argument("--context", type=_positive, help="longest context the bundle shall allow")
    _add_export_options(model, scheme=DEFAULT_SCHEME)
    model.set_defaults(run=_model)

    verify = commands.add_parser("verify", help="check hashes, golden prompts and fidelity")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)
    return parser


def _add_export_options(parser: argparse.ArgumentParser, *, scheme: str) -> None:
    parser.add_argument(
        "--out", type=Path, help="where to put the bundle (default: $NSEDGE_HOME/bundles/NAME)"
    )
    parser.add_argument(
        "--scheme",
        default=scheme,
        choices=SCHEMES,
        help="(default: %(default)s) "
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


Answer = tuple[dict[str, Any], list[str], int]


def _starter(arguments: argparse.Namespace, cache: Cache) -> Answer:
    from exporters.starter import NAME, export_starter, starter_source

    if arguments.print_model_folder:
        folder = str(starter_source(cache).folder)
        return {"model_folder": folder}, [folder], 0
    report = export_starter(
        cache,
        _place(arguments, NAME),
        scheme=SCHEMES[arguments.scheme],
        kv=KvFormat(arguments.kv),
        device=Device(arguments.device),
        replace=arguments.force,
    )
    return _answer(report)


def _model(arguments: argparse.Namespace, cache: Cache) -> Answer:
    from exporters.hub import bundle_name, find_source
    from exporters.recipe import MAX_CONTEXT, Order, export_bundle

    source = find_source(arguments.model, arguments.revision)
    name = bundle_name(arguments.name or arguments.model, exact=arguments.name is not None)
    order = Order(
        source=source,
        name=name,
        scheme=SCHEMES[arguments.scheme],
        kv=KvFormat(arguments.kv),
        device=Device(arguments.device),
        max_context=arguments.context or MAX_CONTEXT,
    )
    out = _place(arguments, name)
    return _answer(export_bundle(order, out, cache=cache, replace=arguments.force))


def _place(arguments: argparse.Namespace, name: str) -> Path:
    out: Path = arguments.out or home() / "bundles" / name
    return out.expanduser().absolute()


def _answer(report: Report) -> Answer:
    from exporters.report import export_lines, export_result

    return export_result(report), export_lines(report), 0


def _verify(arguments: argparse.Namespace, cache: Cache) -> Answer:
    from exporters.report import verify_lines, verify_result
    from exporters.verify import verify_bundle

    verdict = verify_bundle(arguments.bundle.expanduser().absolute(), cache)
    status = 0 if verdict.passed else FAILURE
    return verify_result(verdict), verify_lines(verdict), status


if __name__ == "__main__":
    sys.exit(main())
