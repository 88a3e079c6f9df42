"""The training loop: from a model with an adapter to the adapter's best weights.

Everything a step draws on follows from the seed and the step's number, so a run that goes on from
a checkpoint comes to the same bits as one that was never broken off.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from exporters.errors import ExportError
from exporters.finetune.batches import (
    NO_TARGET,
    Batch,
    Tokenised,
    Tokens,
    batches_of_step,
    in_order,
)
from exporters.finetune.checkpoints import Checkpoint, Tensors
from exporters.finetune.curve import Curve, Learnt, Measured
from exporters.finetune.device import Place
from exporters.finetune.examples import PictureFile
from exporters.finetune.settings import Settings, rate_at
from exporters.progress import Progress

CHECKPOINT_S = 30.0
"""Between two checkpoints, where their distance in steps is not given."""
SEEDS_APART = 1_000_003
EXAMINED = 32
"""Training examples whose loss is taken before and after."""


See = Callable[[Sequence[PictureFile]], Any]
"""Pixel values of pictures, as the model takes them."""


class Training:
    """One run. `model` is a peft model on its device; only what requires a gradient is learnt.

    see: what reads the pictures of a model that sees.
    """

    def __init__(
        self,
        model: Any,
        *,
        settings: Settings,
        place: Place,
        training: Tokenised,
        validation: Tokenised,
        threads: int,
        see: See | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._settings = settings
        self._place = place
        self._examples = training.examples
        self._validation = in_order(validation.examples, settings.batch)
        self._examined = in_order(_some(self._examples, settings.seed), settings.batch)
        self._threads = threads
        self._see = see
        self._clock = clock
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(
            self._parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        forward = inspect.signature(model.get_base_model().forward).parameters
        self._keeps_logits = "logits_to_keep" in forward
        self.total = settings.total_steps(len(self._examples))
        self.curve = Curve()
        self.learnt_s = 0.0
        self._best: Tensors = {}

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from there."""
        self.curve = checkpoint.curve
        self.learnt_s = checkpoint.learnt_s
        self._best = checkpoint.best
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(checkpoint.weights[name])
        for kind, tensors in checkpoint.optimiser.items():
            for name, tensor in tensors.items():
                parameter = self._parameters[name]
                # AdamW counts its steps on the CPU, whatever the parameter's device.
                kept = tensor if kind == "step" else tensor.to(parameter.device)
                self._optimiser.state[parameter][kind] = kept

    def run(self, work: Path, progress: Progress, *, checkpoint_every: int | None = None) -> None:
        """All steps that are left, with checkpoints in `work`; then the best weights are in place.

        Raises:
            ExportError: a loss or a gradient is not finite; the step is named.
        """
        between = self._settings.steps_between(self.total)
        if not self.curve.examined:
            self._measure(0)
            self._examine(0)
        with progress.counted("Training", self.total, unit="step") as done:
            done(self.curve.step)
            written_s = self._clock()
            while self.curve.step < self.total and not self._is_stopped():
                start_s = self._clock()
                step = self.curve.step + 1
                self._learn(step)
                if step % between == 0 or step == self.total:
                    self._measure(step)
                now_s = self._clock()
                self.learnt_s += now_s - start_s
                done(1)
                due = now_s - written_s >= CHECKPOINT_S
                if step % checkpoint_every == 0 if checkpoint_every else due:
                    self._checkpoint().write(work)
                    written_s = self._clock()
        with torch.no_grad():
            for name, tensor in self._best.items():
                self._parameters[name].copy_(tensor)
        best = self.curve.best()
        self._examine(self.curve.step if best is None else best.step)

    def _is_stopped(self) -> bool:
        patience = self._settings.patience
        return patience > 0 and self.curve.without_better() >= patience

    def _learn(self, step: int) -> None:
        settings = self._settings
        rate = rate_at(settings, step, self.total)
        batches = batches_of_step(self._examples, settings, step)
        learnt = sum(batch.learnt for batch in batches)
        torch.manual_seed(settings.seed * SEEDS_APART + step)
        self._model.train()
        loss = 0.0
        for batch in batches:
            part = self._loss(batch) / learnt
            _finite(part.item(), f"step {step}: the loss", settings.learning_rate)
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), settings.clip).item()
        _finite(norm, f"step {step}: the gradient", settings.learning_rate)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.curve.training.append(Learnt(step=step, loss=loss, learning_rate=rate, gradient=norm))

    def _measure(self, step: int) -> None:
        if not self._validation:
            return
        loss = self._mean_loss(self._validation, f"step {step}: the validation loss")
        self.curve.validation.append(Measured(step=step, loss=loss))
        best = self.curve.best()
        if best is not None and best.step == step:
            self._best = {n: p.detach().cpu().clone() for n, p in self._parameters.items()}

    def _examine(self, step: int) -> None:
        loss = self._mean_loss(self._examined, f"step {step}: the loss")
        self.curve.examined.append(Measured(step=step, loss=loss))

    def _mean_loss(self, batches: list[Batch], what: str) -> float:
        self._model.eval()
        with torch.no_grad():
            total = sum(self._loss(batch).item() for batch in batches)
        loss = total / sum(batch.learnt for batch in batches)
        _finite(loss, what, self._settings.learning_rate)
        return loss

    def _loss(self, batch: Batch) -> Any:
        """The sum of the losses (nats) of all targets, of the positions that have any alone."""
        device = self._place.device
        ids, mask, targets = (
            torch.from_numpy(part).to(device) for part in (batch.ids, batch.mask, batch.targets)
        )
        kept = (targets != NO_TARGET).any(0).nonzero()[:, 0]
        more = {"logits_to_keep": kept} if self._keeps_logits else {}
        if batch.pictures and self._see is not None:
            more["pixel_values"] = self._see(batch.pictures).to(device, self._place.dtype)
        with torch.autocast(device, self._place.dtype, enabled=self._place.narrow):
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False, **more).logits
        if logits.shape[1] != len(kept):
            logits = logits[:, kept]
        return cross_entropy(
            logits.float().flatten(0, 1),
            targets[:, kept].flatten(),
            ignore_index=NO_TARGET,
            reduction="sum",
        )

    def _checkpoint(self) -> Checkpoint:
        kinds: dict[str, Tensors] = {}
        for name, parameter in self._parameters.items():
            for kind, tensor in self._optimiser.state[parameter].items():
                kinds.setdefault(kind, {})[name] = tensor
        return Checkpoint(
            curve=self.curve,
            threads=self._threads,
            learnt_s=self.learnt_s,
            weights=self._parameters,
            best=self._best,
            optimiser=kinds,
        )


def _some(examples: Sequence[Tokens], seed: int) -> list[Tokens]:
    """At most `EXAMINED` of the examples, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return [examples[i] for i in sorted(order[:EXAMINED].tolist())]


def _finite(value: float, what: str, learning_rate: float) -> None:
    if not math.isfinite(value):
        raise ExportError(
            f"{what} is {value}; try a lower --learning-rate (it was {learning_rate:g})"
            " or --precision fp32"
        )


def trained_parameters(model: Any) -> int:
    """Numbers that are learnt."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
