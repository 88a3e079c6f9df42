"""What the commands tell of models with an encoder and a decoder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from exporters.answer import SUCCESS, Answer
from exporters.commands.made import made_line, made_result
from exporters.commands.verified import verified
from exporters.errors import ExportError
from exporters.measure.thresholds import read_overrides

if TYPE_CHECKING:
    from exporters.conditioned.package import ConditionedReport
    from exporters.conditioned.verdict import ConditionedVerdict
    from nsedge.bundle.manifest import Bundle


def conditioned_exported(report: ConditionedReport) -> Answer:
    """What an export tells."""
    from exporters.conditioned.verdict import verdict_lines
    from exporters.measure.findings import verdict_result

    result = {
        **made_result(report),
        "states_difference": report.record.states_difference,
        **({"notes": list(report.notes)} if report.notes else {}),
        **verdict_result(report.verdict),
    }
    lines = [
        made_line(report),
        f"  fp32 graphs against PyTorch: {report.record.difference:.1e} nats at most",
        *verdict_lines(report.verdict),
        *(f"  {note}" for note in report.notes),
    ]
    return result, lines, SUCCESS


def verify_conditioned(
    bundle: Bundle[Any],
    arguments: argparse.Namespace,
    verify: Callable[[Mapping[str, float]], ConditionedVerdict],
) -> Answer:
    """What `verify` finds of a bundle, given the limits that were asked for.

    Raises:
        ExportError: options that are for models which read text, or a report within the bundle.
    """
    from exporters.conditioned.verdict import verdict_lines, verdict_page
    from exporters.measure.findings import verdict_json, verdict_result

    if arguments.answers or arguments.prompts is not None or arguments.text is not None:
        raise ExportError("--answers, --prompts and --text are for models that read text")
    verdict = verify(read_overrides(arguments.threshold))
    return verified(
        bundle,
        passed=verdict.passed,
        result=verdict_result(verdict),
        lines=verdict_lines(verdict),
        report=arguments.report,
        pages=lambda: (verdict_json(verdict), verdict_page(verdict)),
    )
