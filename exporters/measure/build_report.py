"""The report of a bundle's variants, as JSON and as a page of Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import ExportError
from exporters.measure.thresholds import AT_LEAST, Limits
from exporters.measure.verdict import Check, Verdict

Json = dict[str, Any]

REPORT_FILE = "report.json"
REPORT_PAGE = "report.md"


def report_result(verdict: Verdict) -> Json:
    """A verdict as plain data."""
    return {
        "name": verdict.name,
        "passed": verdict.passed,
        "difference_from_torch": verdict.difference,
        "difference_from_recorded": verdict.recorded_difference,
        "thresholds_overridden": verdict.overrides,
        "notes": verdict.notes,
        "variants": {check.variant: _check_result(check) for check in verdict.checks},
        "skipped": verdict.skipped,
        "answers": [
            {"prompt": prompt, **_said(verdict, i)} for i, prompt in enumerate(verdict.prompts)
        ],
    }


def _check_result(check: Check) -> Json:
    return {
        "passed": check.passed,
        "failures": check.failures,
        "limits": {str(measure): limit for measure, limit in check.limits.items()},
        "golden": {
            "tokens": check.golden.tokens,
            "top1": check.golden.top1,
            "logprob_difference": check.golden.difference,
        },
        "fidelity_recorded": msgspec.to_builtins(check.recorded),
        "fidelity_measured": msgspec.to_builtins(check.measured),
        "fidelity_text": msgspec.to_builtins(check.text),
    }


def _said(verdict: Verdict, i: int) -> Json:
    exact = None if verdict.answers is None else verdict.answers[i]
    said = {check.variant: check.answers[i] for check in verdict.checks if check.answers}
    return {"fp32": exact, "variants": said}


def write_report(verdict: Verdict, folder: Path, *, bundle: Path) -> None:
    """Write both forms to `folder`; raises what `write_pages` does."""
    write_pages(report_json(verdict), report_page(verdict), folder, bundle=bundle)


def write_pages(as_json: bytes, as_page: str, folder: Path, *, bundle: Path) -> None:
    """Write a report to `folder`, which is not to be the bundle: its files are hashed.

    Raises:
        ExportError: it is, or lies in it.
    """
    if folder == bundle or bundle in folder.parents:
        raise ExportError("--report goes beside the bundle, whose own files are hashed and signed")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((REPORT_FILE, as_json), (REPORT_PAGE, as_page.encode())):
        building = folder / f".{name}.part"
        building.write_bytes(content)
        building.replace(folder / name)


def report_json(verdict: Verdict) -> bytes:
    """`report_result`, indented, with a final newline."""
    encoded = msgspec.json.encode(report_result(verdict), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def report_page(verdict: Verdict) -> str:
    """The same for people."""
    lines = [f"# {verdict.name}: {'passed' if verdict.passed else 'FAILED'}", ""]
    lines += _differences(verdict)
    lines += _table("Against fp32", [(c, c.fidelity) for c in verdict.checks])
    if any(check.text is not None for check in verdict.checks):
        lines += _table("Over the text given", [(c, c.text) for c in verdict.checks])
    lines += _limits(verdict)
    if verdict.notes:
        lines += ["", "## What was chosen, and why", ""]
        lines += [f"- {_line(note)}" for note in verdict.notes]
    if verdict.skipped:
        lines += ["", "## Not run here", ""]
        lines += [f"- {name}: {why}" for name, why in verdict.skipped.items()]
    if verdict.prompts:
        lines += _answers(verdict)
    return "\n".join(lines) + "\n"


def _differences(verdict: Verdict) -> list[str]:
    of = {
        "PyTorch": verdict.difference,
        "the logits that came with the model": verdict.recorded_difference,
    }
    told = [
        f"The fp32 graph differs from {name} by {figure:.1e} nats at most in any log-probability."
        for name, figure in of.items()
        if figure is not None
    ]
    return [*told, ""] if told else []


def _table(title: str, rows: list[tuple[Check, Any]]) -> list[str]:
    lines = [
        f"## {title}",
        "",
        "| Variant | KL, nats | top-1 | perplexity | fp32's | positions | golden top-1 | off by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for check, found in rows:
        cells = ["not measured", "", "", "", ""]
        if found is not None:
            cells = [f"{found.kl:.4f}", f"{found.top1:.3f}", f"{found.perplexity:.2f}"]
            cells += [f"{found.perplexity_fp32:.2f}", str(found.positions)]
        golden = [f"{check.golden.top1:.3f}", f"{check.golden.difference:.4f}"]
        lines.append("| " + " | ".join([check.variant, *cells, *golden]) + " |")
    return [*lines, ""]


def _limits(verdict: Verdict) -> list[str]:
    lines = ["## Limits", ""]
    for check in verdict.checks:
        state = "; ".join(check.failures) if check.failures else "kept"
        lines.append(f"- {check.variant}: {limits_text(check.limits)}: {state}")
    if verdict.overrides:
        asked = ", ".join(f"`{name}={limit:g}`" for name, limit in verdict.overrides.items())
        lines += ["", f"In the place of the usual ones: {asked}."]
    return lines


def limits_text(limits: Limits) -> str:
    """One line."""
    if not limits:
        return "nothing is promised"
    signs = {measure: ">=" if measure in AT_LEAST else "<=" for measure in limits}
    return ", ".join(f"{measure} {signs[measure]} {limit:g}" for measure, limit in limits.items())


def _answers(verdict: Verdict) -> list[str]:
    lines = ["", "## Answers, greedy"]
    for i, prompt in enumerate(verdict.prompts):
        said = _said(verdict, i)
        lines += ["", f"**{_line(prompt)}**", ""]
        if said["fp32"] is not None:
            lines.append(f"- fp32: {_line(said['fp32'])}")
        lines += [f"- {variant}: {_line(text)}" for variant, text in said["variants"].items()]
    return lines


def _line(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split()) or "(nothing)"
