"""How a training run went: its losses step by step, as numbers and as a picture."""

from __future__ import annotations

from pathlib import Path

import msgspec

LOSS_FILE = "loss.json"
PICTURE_FILE = "loss.png"
SMOOTHING = 0.9
"""What the drawn average keeps of itself at each step."""


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """One step: mean loss in nats a token, over the tokens that are learnt."""

    step: int
    loss: float
    learning_rate: float
    gradient: float
    """2-norm, before it was clipped."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The validation loss after `step`, in nats a token; step 0 is before training."""

    step: int
    loss: float


class Curve(msgspec.Struct, kw_only=True):
    """A run so far."""

    training: list[Learnt] = msgspec.field(default_factory=list)
    validation: list[Measured] = msgspec.field(default_factory=list)
    examined: list[Measured] = msgspec.field(default_factory=list)
    """Some training examples, without dropout: before training, and with the weights kept."""

    @property
    def step(self) -> int:
        """Steps done."""
        return self.training[-1].step if self.training else 0

    def best(self) -> Measured | None:
        """The earliest measurement with the least loss after a step; None without one."""
        return min(self._after_steps(), key=lambda one: one.loss, default=None)

    def without_better(self) -> int:
        """Measurements since the best one."""
        measured = self._after_steps()
        best = self.best()
        return 0 if best is None else len(measured) - 1 - measured.index(best)

    def _after_steps(self) -> list[Measured]:
        return [one for one in self.validation if one.step > 0]


LEAST_CHANGE = 0.1
"""The share of the loss that has to go for a run to have taught anything."""


def warning(curve: Curve) -> str | None:
    """What is wrong with the outcome of a finished run, if anything is."""
    before, after = curve.examined[0].loss, curve.examined[-1].loss
    if after > (1 - LEAST_CHANGE) * before:
        return (
            "the loss hardly moved, so that next to nothing was learnt; more --steps or a higher"
            " --learning-rate may help"
        )
    best = curve.best()
    if best is not None and best.loss > curve.validation[0].loss:
        return (
            "the validation examples got worse: what was learnt holds for the training examples"
            " alone; more examples or fewer --epochs may help"
        )
    return None


def loss_line(curve: Curve) -> str:
    """The losses of a finished run before and after, for people."""
    training = f"training {curve.examined[0].loss:.3f} before, {curve.examined[-1].loss:.3f} after"
    best = curve.best()
    if best is None:
        return f"loss: {training}; validation: no examples"
    last = curve.validation[-1]
    ended = "" if last == best else f" ({last.loss:.3f} at the end)"
    validation = f"{curve.validation[0].loss:.3f} before, {best.loss:.3f} after{ended}"
    return f"loss: {training}; validation {validation}"


def write_curve(curve: Curve, folder: Path) -> None:
    """Write loss.json and loss.png."""
    text = msgspec.json.format(msgspec.json.encode(curve), indent=2)
    (folder / LOSS_FILE).write_bytes(text + b"\n")
    _draw(curve, folder / PICTURE_FILE)


def read_curve(folder: Path) -> Curve:
    """What `write_curve` wrote."""
    return msgspec.json.decode((folder / LOSS_FILE).read_bytes(), type=Curve)


def _draw(curve: Curve, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow: only to draw
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [one.step for one in curve.training]
    axes.plot(steps, [one.loss for one in curve.training], color="#9ecae1", lw=1, label="each step")
    axes.plot(steps, _smoothed(curve), color="#2171b5", lw=2, label="running mean")
    if curve.validation:
        measured = ([one.step for one in curve.validation], [one.loss for one in curve.validation])
        axes.plot(*measured, color="#d94801", marker="o", ms=4, label="validation")
    if (best := curve.best()) is not None:
        axes.plot(best.step, best.loss, "o", ms=11, mfc="none", mec="#d94801", label="kept")
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def _smoothed(curve: Curve) -> list[float]:
    """An exponential mean, free of the pull towards its start (as Adam corrects its moments)."""
    mean, weight, means = 0.0, 0.0, []
    for one in curve.training:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * one.loss
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        means.append(mean / weight)
    return means
