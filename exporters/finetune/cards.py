"""The README.md of what is made, with the base's licence at its head, as the hub reads it."""

from __future__ import annotations

import re

from exporters.finetune.lineage import AdapterLineage, MergedLineage
from exporters.model.source import Source

_HEAD = re.compile(r"---\n(.*?)\n---\n?", re.DOTALL)
_LICENCE_KEYS = ("license", "license_name", "license_link")


def adapter_card(lineage: AdapterLineage) -> str:
    """An adapter's card."""
    base, dataset = lineage.base, lineage.dataset
    loss = (
        ""
        if lineage.validation_loss is None
        else f", validation loss {lineage.validation_loss:.3f}"
    )
    settings = lineage.settings
    rank = () if settings.targets == () else (f"Rank {settings.rank}",)
    learnt = ", ".join([*rank, *(f"`{name}` whole" for name in settings.whole or ())])
    head = _head([f"base_model: {base.origin}", "library_name: peft", "tags: [lora]"])
    return (
        f"{head}# LoRA adapter for {base.origin}\n\n"
        f"{learnt}, {lineage.best_step} of {lineage.steps} steps"
        f" over {dataset.examples} examples{loss} (nats a token).\n"
        f"The base's licence: {base.licence}. lineage.json tells what it was made from.\n"
    )


def merged_card(source: Source, lineage: MergedLineage) -> str:
    """A merged model's card: the base's licence as it stood, then the base's own card."""
    card = source.folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = _HEAD.match(text)
    kept = _licence_lines(found.group(1)) if found else []
    adapters = "".join(f"- {one.name}, weight {one.weight:g}\n" for one in lineage.adapters)
    body = text[found.end() :].strip() if found else text.strip()
    told = f"\n## The base's card\n\n{_lowered(body)}\n" if body else ""
    head = _head([*kept, f"base_model: {source.origin}"])
    return (
        f"{head}# {source.origin} with adapters merged in\n\n{adapters}\n"
        f"The base's licence: {lineage.base.licence}. lineage.json tells what it was made from.\n"
        f"{told}"
    )


def _head(lines: list[str]) -> str:
    return "---\n" + "\n".join(lines) + "\n---\n"


def _licence_lines(head: str) -> list[str]:
    return [line for line in head.splitlines() if line.split(":")[0] in _LICENCE_KEYS]


def _lowered(body: str) -> str:
    """Its headings two levels down, below ours."""
    return re.sub(r"^(#{1,4} )", r"##\1", body, flags=re.MULTILINE)
