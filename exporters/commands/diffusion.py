"""What the commands do with models of pictures."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands.options import place, says_variants, wanted_variants
from exporters.commands.verified import verified
from exporters.errors import ExportError
from exporters.model.source import Source

if TYPE_CHECKING:
    from exporters.diffusion.build import DiffusionReport
    from exporters.diffusion.verify import DiffusionCheck
    from nsedge.bundle.diffusion import Diffusion, ImageFidelity
    from nsedge.bundle.manifest import Bundle


def make_diffusion_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of a diffusers folder as the options of `add_bundle` say.

    Raises:
        ExportError: options that are for other models.
    """
    from exporters.diffusion.build import DiffusionOrder, export_diffusion

    if arguments.context is not None or arguments.threshold or arguments.drop_surplus_tokens:
        raise ExportError(
            "--context, --threshold and --drop-surplus-tokens are not for models of pictures"
        )
    order = DiffusionOrder(source=source)
    if says_variants(arguments):
        order = DiffusionOrder(source=source, variants=wanted_variants(arguments))
    report = export_diffusion(
        order, place(arguments, name), name=name, cache=cache, replace=arguments.force
    )
    return _exported(report)


def _exported(report: DiffusionReport) -> Answer:
    shape = report.shape
    trials = {made.name: msgspec.to_builtins(made.trial) for made in report.variants}
    result = {
        "bundle": str(report.bundle),
        "made": report.made,
        "bytes": report.bytes,
        "differences_from_diffusers": report.record.differences,
        "picture": [shape.height, shape.width],
        "scheduler": shape.scheduler.scheduler,
        "variants": trials,
        "notes": list(shape.notes),
    }
    state = "written" if report.made else "up to date"
    apart = max(report.record.differences.values())
    lines = [
        f"{report.bundle}: {state}, {report.bytes / 1e6:.0f} MB",
        f"  {shape.pipeline}: pictures of {shape.height} x {shape.width}, by"
        f" {shape.scheduler.scheduler}",
        f"  fp32 graphs against diffusers: {apart:.1e} at most",
        *(f"  {made.name} against fp32: {_told(made.trial.fidelity)}" for made in report.variants),
        *(f"  {note}" for note in shape.notes),
    ]
    return result, lines, SUCCESS


def verify_diffusion_bundle(bundle: Bundle[Diffusion], arguments: argparse.Namespace) -> Answer:
    """Check the bundle of a model of pictures as the options of `verify` say.

    Raises:
        ExportError: options that are for other models, or a report within the bundle.
    """
    from exporters.diffusion.verify import verify_diffusion

    if arguments.answers or arguments.prompts is not None or arguments.text is not None:
        raise ExportError("--text, --answers and --prompts are not for models of pictures")
    if arguments.threshold:
        raise ExportError("--threshold is not for models of pictures")
    checks = verify_diffusion(bundle)
    passed = not any(check.failures for check in checks)
    result = {"passed": passed, "variants": [msgspec.to_builtins(asdict(one)) for one in checks]}
    lines = [line for check in checks for line in _lines(check)]
    page = f"# {bundle.name}: {'passed' if passed else 'FAILED'}\n\n" + "\n".join(
        f"- {line.strip()}" for line in lines
    )
    return verified(
        bundle,
        passed=passed,
        result=result,
        lines=lines,
        report=arguments.report,
        pages=lambda: (msgspec.json.format(msgspec.json.encode(result)) + b"\n", f"{page}\n"),
    )


def _lines(check: DiffusionCheck) -> list[str]:
    lines = [
        f"  {check.variant}: {'FAILED' if check.failures else 'passed'}",
        f"    golden samples: cosine {check.golden:.6f} at least",
    ]
    if check.recorded is not None:
        lines.append(f"    against fp32, as recorded: {_told(check.recorded)}")
    return lines + [f"    FAILED: {reason}" for reason in check.failures]


def _told(fidelity: ImageFidelity) -> str:
    return (
        f"levels off by {fidelity.mean_difference:.5f} on average,"
        f" {fidelity.greatest_difference:.4f} at most, {fidelity.psnr_db:.1f} dB,"
        f" {fidelity.images} pictures of {fidelity.steps} steps"
    )
