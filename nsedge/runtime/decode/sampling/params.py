"""How one row is sampled, as values."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api import AdaptiveP, Dry, DynamicTemperature, Mirostat, SamplerStep, Xtc
from nsedge.api.steps import DEFAULT_ORDER, WHOLE_CONTEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Every value is set and in range (see `nsedge.api.Sampling`); None is a step that is off.

    Of the steps that have a place in the order, those outside `order` are neutral.
    """

    temperature: float = 1.0
    dynamic_temperature: DynamicTemperature | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc: Xtc | None = None
    min_keep: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = WHOLE_CONTEXT
    dry: Dry | None = None
    no_repeat_ngram_size: int = 0
    mirostat: Mirostat | None = None
    adaptive_p: AdaptiveP | None = None
    order: tuple[SamplerStep, ...] = DEFAULT_ORDER

    @property
    def greedy(self) -> bool:
        """Whether the greatest logit is taken."""
        return self.temperature == 0.0 or (self.top_k == 1 and self.order == DEFAULT_ORDER)
