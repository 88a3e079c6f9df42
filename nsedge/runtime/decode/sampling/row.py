"""What sampling needs to know of one sequence."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.sampling.filters import width_of
from nsedge.runtime.decode.sampling.logits import Floats, Ids
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.penalties import SeenTokens, is_penalised

TokenMask = NDArray[np.uint32]
"""The tokens that may come, uint32 [ceil(V / 32)]: bit t % 32 of word t // 32 is for token t. What
it does not reach may not come."""


class SamplerRow:
    """Parameters, what was seen, and a generator (PCG64)."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int | None = None,
        logit_bias: dict[int, float] | None = None,
        prompt_ids: Iterable[int] = (),
        logprobs: int | None = None,
    ) -> None:
        """`logprobs`: tell each token's log-probability, and those of so many of the likeliest."""
        self.params = params
        self.greedy = params.greedy
        self.width = 0 if params.greedy else width_of(params)
        """Candidates to look at first; 0 where no filter needs any."""
        self.logprobs = logprobs
        self.seen = SeenTokens(prompt_ids) if is_penalised(params) else None
        self.mask: TokenMask | None = None
        """The tokens that may come next; None where all may."""
        self.ban_end = False
        """Whether the next token may not be an end of sequence."""
        bias = logit_bias or {}
        self.bias_ids: Ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.bias: Floats = np.fromiter(bias.values(), np.float32, len(bias))
        self._seed = seed

    @functools.cached_property
    def generator(self) -> np.random.Generator:
        """Made once it is drawn from: greedy rows need none, nor its libraries in memory."""
        return np.random.Generator(np.random.PCG64(self._seed))

    def accept(self, token_id: int) -> None:
        """Note the token that was chosen."""
        if self.seen is not None:
            self.seen.add(token_id)
