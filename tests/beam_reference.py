"""What transformers' beam search finds, and what the daemon does for the same request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from nsedge.api import ChoiceFinished, Delta, Finished, Generate, Request, Sampling
from nsedge.api.stream import EventStream
from nsedge.core.service import LocalService

Text = list[int]
SEARCHES: tuple[dict[str, Any], ...] = (
    {"beams": 4},
    {"beams": 4, "n": 4, "length_penalty": 2.0},
    {"beams": 3, "n": 2, "length_penalty": 0.0, "early_stopping": "never"},
    {"beams": 5, "n": 3, "length_penalty": -0.5, "early_stopping": True},
    {"beams": 4, "repetition_penalty": 1.3},
    {"beams": 4, "n": 2, "no_repeat_ngram_size": 2, "min_tokens": 10},
)
_THEIRS = {
    "beams": "num_beams",
    "n": "num_return_sequences",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
}


@dataclass(frozen=True, kw_only=True)
class Beams:
    """A prompt, and how it is searched: fields of `Sampling`."""

    prompt: Text
    end: int
    max_tokens: int
    fields: dict[str, Any] = field(default_factory=dict)

    def of_transformers(self, model: Any) -> tuple[list[Text], list[float]]:
        """Texts without their ends, and scores."""
        wanted = {_THEIRS[name]: value for name, value in self.fields.items() if name in _THEIRS}
        if "min_tokens" in self.fields:  # there the end itself does not count
            wanted["min_new_tokens"] = self.fields["min_tokens"] - 1
        with torch.no_grad():
            found = model.generate(
                torch.tensor([self.prompt]),
                attention_mask=torch.ones((1, len(self.prompt)), dtype=torch.long),
                do_sample=False,
                temperature=None,
                top_p=None,
                max_new_tokens=self.max_tokens,
                eos_token_id=self.end,
                pad_token_id=self.end,
                return_dict_in_generate=True,
                output_scores=True,
                **wanted,
            )
        texts = found.sequences[:, len(self.prompt) :].tolist()
        for text in texts:
            while text and text[-1] == self.end:
                text.pop()
        return texts, found.sequences_scores.tolist()

    async def of_service(self, service: LocalService, model: str) -> tuple[list[Text], list[float]]:
        """The same, where log-probabilities are not edited."""
        sampling = Sampling(max_tokens=self.max_tokens, **self.fields)
        task = Generate(token_ids=tuple(self.prompt), sampling=sampling)
        request = Request(request_id="r", model=model, task=task)
        async with EventStream(service, request) as stream:
            events = [event async for event in stream]
        assert isinstance(events[-1], Finished), events[-1]
        deltas = [event for event in events if isinstance(event, Delta)]
        texts = [
            [token for one in deltas if one.choice == choice for token in one.token_ids]
            for choice in range(sampling.n)
        ]
        ends = [event for event in events if isinstance(event, ChoiceFinished)] or [events[-1]]
        power = sampling.length_penalty
        scores = [
            (end.cumulative_logprob or 0.0) / end.usage.completion_tokens**power for end in ends
        ]
        return texts, scores
