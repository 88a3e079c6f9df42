"""`nsedge-export train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.base import add_base, choose_base, noted_by_dataset, remember_base
from exporters.commands.options import add_json, positive
from exporters.finetune.curve import loss_line, warning
from exporters.finetune.device import DeviceWish, Precision
from exporters.finetune.settings import FITTED, LEAST_STEPS, Schedule, Settings

if TYPE_CHECKING:
    from exporters.finetune.train import Report


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("train", help="teach a base model examples, as a LoRA adapter")
    add_base(parser)
    parser.add_argument(
        "--dataset",
        required=True,
        type=Path,
        metavar="TRAIN.jsonl",
        help="what the command dataset wrote; TRAIN.validation.jsonl is read beside it",
    )
    parser.add_argument("--out", required=True, type=Path, help="the adapter's folder")
    _add_settings(parser)
    _add_place(parser)
    parser.add_argument("--force", action="store_true", help="replace whatever is at --out")
    add_json(parser)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is learnt, and how")
    told = Settings()

    def number(name: str, kind: Any, about: str) -> None:
        field = name.lstrip("-").replace("-", "_")
        value = None if field in FITTED else getattr(told, field)
        shown = about if value is None else f"{about} (default: %(default)s)"
        group.add_argument(name, type=kind, default=value, help=shown)

    number("--rank", positive, "of the adapter's matrices")
    number("--alpha", above_zero, "the adapter counts alpha / rank times")
    number("--dropout", share, "share of an adapter's inputs that a step leaves out")
    group.add_argument(
        "--targets",
        type=names,
        metavar="NAME,...",
        help="layers to adapt, or none (default: by architecture, every linear layer but the head;"
        " of a model that sees, of its decoder)",
    )
    group.add_argument(
        "--whole",
        type=names,
        metavar="NAME,...",
        help="modules to learn whole, or none (default: of a model that sees its projector)",
    )
    number("--learning-rate", above_zero, "at its highest (default: by the number of steps)")
    group.add_argument(
        "--schedule",
        default=told.schedule.value,
        choices=[schedule.value for schedule in Schedule],
        help="of the learning rate after the warm-up (default: %(default)s)",
    )
    number("--warmup", at_least_zero, "share of the steps, or their number from 1 on")
    number(
        "--epochs",
        above_zero,
        f"times that every example is seen (default: 3, more for few examples: {LEAST_STEPS} steps"
        " at least; fewer for tens of thousands)",
    )
    number("--steps", positive, "instead of --epochs")
    number("--batch", positive, "examples computed together (default: 8, less for few examples)")
    number("--accumulate", positive, "batches a step")
    number("--weight-decay", at_least_zero, "AdamW's")
    number("--clip", above_zero, "longest gradient")
    group.add_argument(
        "--checkpointing",
        action="store_true",
        help="keep fewer activations and compute them anew: less memory, a third more time",
    )
    number("--max-tokens", positive, "longer examples are cut")
    number("--evaluate", positive, "steps between two validations (default: eight in all)")
    number("--patience", whole, "validations without a better one before the end; 0: never end")
    number("--seed", whole, "of weights, order and dropout")


def _add_place(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--device",
        default=DeviceWish.AUTO.value,
        choices=[wish.value for wish in DeviceWish],
        help="auto: a CUDA device where torch sees one",
    )
    group.add_argument(
        "--precision",
        default=Precision.AUTO.value,
        choices=[precision.value for precision in Precision],
        help="of the base; auto: bf16 on a GPU that has it, else fp32",
    )
    group.add_argument(
        "--threads", type=positive, help="on the CPU (default: the cores that others leave free)"
    )
    group.add_argument(
        "--checkpoint-every",
        type=positive,
        metavar="STEPS",
        help="a checkpoint to go on from after a kill (default: one every 30 s)",
    )


def above_zero(text: str) -> float:
    """A number over 0."""
    return _between(text, 0.0, float("inf"), "more than 0", open_below=True)


def at_least_zero(text: str) -> float:
    """A number of 0 or more."""
    return _between(text, 0.0, float("inf"), "0 or more")


def share(text: str) -> float:
    """A number from 0 to below 1."""
    return _between(text, 0.0, 1.0, "from 0 to below 1")


def whole(text: str) -> int:
    """A whole number of 0 or more.

    Raises:
        argparse.ArgumentTypeError: it is less.
    """
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("0 or more")
    return number


def names(text: str) -> tuple[str, ...]:
    """Names set apart by commas; the word none stands for no name.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    if text.strip() == "none":
        return ()
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError("names set apart by commas")
    return found


def _between(
    text: str, least: float, below: float, wanted: str, *, open_below: bool = False
) -> float:
    number = float(text)
    if not least <= number < below or (open_below and number == least):
        raise argparse.ArgumentTypeError(wanted)
    return number


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Train the adapter."""
    from exporters.finetune.device import choose_place
    from exporters.finetune.train import Order, train

    chosen = {name: getattr(arguments, name) for name in Settings.__struct_fields__}
    free = frozenset(name for name in FITTED if chosen[name] is None)
    chosen = {name: value for name, value in chosen.items() if name not in free}
    dataset = arguments.dataset.expanduser()
    base = choose_base(arguments, cache, noted_by_dataset(dataset))
    order = Order(
        source=base.source,
        dataset=dataset,
        settings=Settings(**chosen | {"schedule": Schedule(arguments.schedule)}),
        free=free,
        place=choose_place(DeviceWish(arguments.device), Precision(arguments.precision)),
        threads=arguments.threads,
        checkpoint_every=arguments.checkpoint_every,
    )
    out = arguments.out.expanduser().absolute()
    report = train(order, out, cache=cache, replace=arguments.force)
    remember_base(cache, report.lineage.base.weights_sha256, base.source)
    head, *lines = _lines(report)
    return _result(report) | base.result(), [head, base.line(), *lines], SUCCESS


def _result(report: Report) -> dict[str, Any]:
    lineage, validation = report.lineage, report.curve.validation
    result: dict[str, Any] = {
        "adapter": str(report.adapter),
        "made": report.facts is not None,
        "device": lineage.device,
        "precision": lineage.precision,
        "examples": lineage.dataset.examples,
        "validation_examples": lineage.dataset.validation_examples,
        "targets": list(lineage.settings.targets or ()),
        "whole": list(lineage.settings.whole or ()),
        "epochs": lineage.settings.epochs,
        "batch": lineage.settings.batch,
        "learning_rate": lineage.settings.learning_rate,
        "steps": lineage.steps,
        "best_step": lineage.best_step,
        "training_loss_before": report.curve.examined[0].loss,
        "training_loss": report.curve.examined[-1].loss,
        "validation_loss_before": validation[0].loss if validation else None,
        "validation_loss": lineage.validation_loss,
        "warning": warning(report.curve),
    }
    if (facts := report.facts) is not None:
        result |= {
            "threads": facts.threads,
            "resumed_at": facts.resumed_at,
            "cut": facts.cut,
            "dropped": facts.dropped,
            "learnt_tokens": facts.learnt_tokens,
            "trained_parameters": facts.trained_parameters,
            "seconds": round(facts.learnt_s, 1),
            "peak_mib": round(facts.peak_bytes / 2**20),
        }
    return result


def _lines(report: Report) -> list[str]:
    lineage, validation = report.lineage, report.curve.validation
    lines = [f"{report.adapter}: {'trained' if report.facts else 'up to date'}"]
    held = f", {lineage.dataset.validation_examples} held back" if validation else ""
    lines.append(f"  examples: {lineage.dataset.examples}{held}")
    if (facts := report.facts) is not None:
        if facts.cut or facts.dropped:
            lines.append(
                f"  longer than {lineage.settings.max_tokens} tokens:"
                f" {facts.cut} cut, {facts.dropped} dropped"
            )
        lines.append(
            f"  learnt: {facts.learnt_tokens} tokens an epoch by"
            f" {facts.trained_parameters / 1e6:.2f} million parameters"
        )
        lines.append(
            f"  took: {facts.learnt_s:.0f} s, {facts.threads} threads,"
            f" {facts.peak_bytes / 2**20:.0f} MiB of memory at most"
        )
    settings = lineage.settings
    if settings.whole:
        lines.append(f"  learnt whole: {', '.join(settings.whole)}")
    lines.append(
        f"  steps: {lineage.steps} of {settings.batch * settings.accumulate} examples,"
        f" learning rate {settings.learning_rate:g}; kept: {lineage.best_step}"
    )
    if (told := warning(report.curve)) is not None:
        lines.append(f"  warning: {told}")
    lines.append(f"  {loss_line(report.curve)}")
    return lines
