"""The stages in their order, and what each takes from those before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

POSITIONAL = ""
"""Stands for the argument of a command that has no option before it."""


class Kind(StrEnum):
    """What passes from stage to stage."""

    BASE = "base model"
    EXAMPLES = "examples"
    ADAPTER = "adapter"
    MODEL = "model folder"
    GRAPHS = "graphs"
    BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage is the command of the same name."""

    name: str
    takes: dict[str, Kind] = field(default_factory=dict)
    """The option that says where each input is."""
    gives: Kind | None = None
    out: str = "out"
    """The option that says where the output goes, for a stage that has one."""
    place: str = ""
    """Below the recipe's `work`, where the output goes unless the recipe says; {name} is known."""

    def output(self, work: Path, name: str) -> Path:
        """Where the output goes unless the recipe says."""
        return work / self.place.format(name=name)


STAGES = (
    Stage(
        name="dataset",
        takes={"base": Kind.BASE},
        gives=Kind.EXAMPLES,
        out="output",
        place="train.jsonl",
    ),
    Stage(
        name="train",
        takes={"base": Kind.BASE, "dataset": Kind.EXAMPLES},
        gives=Kind.ADAPTER,
        place="adapter",
    ),
    Stage(
        name="merge",
        takes={"base": Kind.BASE, "adapter": Kind.ADAPTER},
        gives=Kind.MODEL,
        place="merged",
    ),
    Stage(name="export", takes={POSITIONAL: Kind.MODEL}, gives=Kind.GRAPHS, place="graphs"),
    Stage(
        name="package",
        takes={POSITIONAL: Kind.GRAPHS},
        gives=Kind.BUNDLE,
        place="bundles/{name}",
    ),
    Stage(
        name="model",
        takes={POSITIONAL: Kind.MODEL},
        gives=Kind.BUNDLE,
        place="bundles/{name}",
    ),
    Stage(name="verify", takes={POSITIONAL: Kind.BUNDLE}),
    Stage(name="deploy", takes={POSITIONAL: Kind.BUNDLE}),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)
AT_ONCE, BY_PARTS = "model", ("export", "package")
"""Two ways to a bundle; of what is no text model the first alone."""
