"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import SUCCESS, Answer
from exporters.bundle.build import Report, export_bundle
from exporters.bundle.orders import Order, VariantOrder, one_variant, usual_variant, variants_named
from exporters.cache import Cache, home
from exporters.commands.report import export_lines, export_result
from exporters.errors import ExportError
from exporters.measure.thresholds import read_overrides
from exporters.model.hub import find_source
from exporters.model.source import Source
from exporters.model.trimming import without_surplus_tokens
from exporters.model.wordpiece import with_tokenizer_file
from exporters.quantise.schemes import SCHEMES, Device, KvFormat, Scheme


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_bundle(
    parser: argparse.ArgumentParser, *, scheme: str | None, unsaid: str | None = None
) -> None:
    """All that says what the bundle of a model shall be, for `make_bundle`."""
    add_out(parser)
    add_variants(parser, scheme=scheme, unsaid=unsaid)
    add_thresholds(parser)
    add_force(parser)
    add_json(parser)


def add_force(parser: argparse.ArgumentParser) -> None:
    """--force."""
    parser.add_argument("--force", action="store_true", help="replace whatever is at --out")


def add_out(parser: argparse.ArgumentParser) -> None:
    """--out of a bundle."""
    parser.add_argument(
        "--out", type=Path, help="where to put the bundle (default: $NSEDGE_HOME/bundles/NAME)"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, and up to which context."""
    parser.add_argument(
        "model", metavar="PATH_OR_HUB_ID", help="a model folder, or a hub's ORG/NAME"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--context", type=positive, help="longest context the bundle shall allow")
    parser.add_argument(
        "--drop-surplus-tokens",
        action="store_true",
        help="leave added tokens that the embedding has no rows for out of the tokenizer",
    )


def found_source(arguments: argparse.Namespace) -> Source:
    """The folder that `add_model` was given.

    Raises:
        ExportError: there is no such model.
    """
    return find_source(arguments.model, arguments.revision)


def model_source(
    arguments: argparse.Namespace, cache: Cache, found: Source | None = None
) -> Source:
    """What `add_model` was given, as its options want it; `found` where it was looked for already.

    Raises:
        ExportError: there is no such model.
    """
    source = with_tokenizer_file(found or found_source(arguments), cache)
    return without_surplus_tokens(source, cache) if arguments.drop_surplus_tokens else source


def add_variants(
    parser: argparse.ArgumentParser, *, scheme: str | None, unsaid: str | None = None
) -> None:
    """In which variants: by --variants, or one by --scheme, --kv and --device.

    `unsaid` tells what is taken where no scheme is named, and `scheme` is none.
    """
    parser.add_argument(
        "--variants",
        metavar="NAME,...",
        help="several, as DEVICE-SCHEME: cpu-int8,cpu-x4,cuda-fp16,cuda-int4, or any scheme's own"
        " name, with -kv8 behind it for an int8 cache; instead of --scheme, --kv and --device",
    )
    told = "; ".join(f"{scheme.name}: {scheme.about}" for scheme in SCHEMES.values())
    parser.add_argument(
        "--scheme",
        choices=SCHEMES,
        help=f"(default: {unsaid or scheme}) {told}".replace("%", "%%"),
    )
    parser.add_argument(
        "--kv",
        choices=[kv.value for kv in KvFormat],
        help="the key and value cache: int8 is a quarter of the memory, at a small loss",
    )
    parser.add_argument(
        "--device",
        choices=[device.value for device in Device],
        help="what to make it for: cuda computes in float16",
    )
    parser.set_defaults(default_scheme=scheme)


def wanted_variants(
    arguments: argparse.Namespace, unsaid: Scheme | None = None
) -> tuple[VariantOrder, ...]:
    """What `add_variants` was given; `unsaid` is the scheme where it names none, and knows none.

    Raises:
        ExportError: a name is not known, or both ways were used.
    """
    alone = [name for name in ("scheme", "kv", "device") if getattr(arguments, name) is not None]
    if arguments.variants is None:
        kv = KvFormat(arguments.kv or KvFormat.FLOAT32)
        device = Device(arguments.device or Device.CPU)
        if arguments.scheme is not None:
            return (one_variant(SCHEMES[arguments.scheme], kv, device),)
        return (usual_variant(unsaid or SCHEMES[arguments.default_scheme], kv, device),)
    if alone:
        raise ExportError(f"--variants names scheme, cache and device; --{alone[0]} does not go")
    return variants_named(arguments.variants)


def says_variants(arguments: argparse.Namespace) -> bool:
    """Whether any option of `add_variants` was given."""
    names = ("variants", "scheme", "kv", "device")
    return any(getattr(arguments, name) is not None for name in names)


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """--threshold."""
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="[VARIANT.]MEASURE=NUMBER",
        help="a limit in the place of what a scheme promises; the measures: kl, top1, perplexity"
        " (times fp32's), golden (top-1 on golden prompts), golden_difference (nats); of encoders:"
        " cosine (mean), cosine_least, golden_cosine (least); of heads: score_top1, score_error"
        " (mean), score_error_most, golden_error",
    )


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


def make_bundle(order: Order, arguments: argparse.Namespace, *, name: str, cache: Cache) -> Answer:
    """Make the bundle `name` of `order` as the options of `add_bundle` say."""
    report = export_bundle(
        order,
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return exported(report)


def exported(report: Report) -> Answer:
    """What an export tells."""
    return export_result(report), export_lines(report), SUCCESS
