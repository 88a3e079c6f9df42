"""A training run as it stands, in one file that is there whole or not at all.

Order, dropout and learning rate are functions of seed and step, so that these need no keeping.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exporters.errors import ExportError
from exporters.finetune.curve import Curve

CHECKPOINT_FILE = "checkpoint.safetensors"
_STATE = "state"

Tensors = dict[str, Any]
"""Torch tensors by the names of the trained parameters."""


class _State(msgspec.Struct, frozen=True, kw_only=True):
    threads: int
    curve: Curve
    learnt_s: float


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the next step depends on."""

    curve: Curve
    threads: int
    """Sums in another order differ in their last bits, so a run goes on with as many as before."""
    learnt_s: float
    """Time spent so far, in seconds."""
    weights: Tensors
    best: Tensors
    """The weights of the best measurement; empty before the first."""
    optimiser: dict[str, Tensors]
    """By name of its state: each parameter's."""

    def write(self, folder: Path) -> None:
        """Put it in the place of the one before."""
        parts = {"weights": self.weights, "best": self.best}
        parts |= {f"optimiser:{kind}": tensors for kind, tensors in self.optimiser.items()}
        flat = {
            f"{part}/{name}": tensor.detach().cpu().contiguous()
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }
        state = _State(threads=self.threads, curve=self.curve, learnt_s=self.learnt_s)
        building = folder / f"{CHECKPOINT_FILE}.part"
        try:
            save_file(flat, building, metadata={_STATE: msgspec.json.encode(state).decode()})
        except SafetensorError as error:
            building.unlink(missing_ok=True)
            raise ExportError(f"{building}: {error}") from error
        with building.open("rb") as file:
            os.fsync(file.fileno())
        building.replace(folder / CHECKPOINT_FILE)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The run that was broken off in `folder`, if there is one.

    Raises:
        ExportError: the file is damaged.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    parts: dict[str, Tensors] = {"weights": {}, "best": {}}
    try:
        with safe_open(path, "pt") as file:
            state = msgspec.json.decode(file.metadata()[_STATE], type=_State)
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                part, _, name = key.partition("/")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: {error}; delete it to train from the beginning") from error
    return Checkpoint(
        curve=state.curve,
        threads=state.threads,
        learnt_s=state.learnt_s,
        weights=parts.pop("weights"),
        best=parts.pop("best"),
        optimiser={part.removeprefix("optimiser:"): tensors for part, tensors in parts.items()},
    )
