"""A request as the engine works on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nsedge.api import Logprobs
from nsedge.errors import ComputationFailure
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.plan import Chunk
from nsedge.runtime.decode.sampling.logits import Logits
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Draw, likelihood
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.delivery import Emit
from nsedge.runtime.structure.guide import Guide
from nsedge.runtime.text.answer.reader import AnswerReader
from nsedge.runtime.text.detokenizer import Piece, TextStream

NOTHING_LEFT = (
    "no token may come next: what is allowed, banned, a bad word, an n-gram that was there, or not"
    " in the grammar leaves none"
)
NO_NUMBERS = "the model's logits for this request are no numbers"


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A sequence, how its tokens are chosen, and what becomes of them."""

    request_id: str
    sequence: Sequence
    row: SamplerRow
    text: TextStream
    emit: Emit
    likelihood: LogprobWriter | None = None
    """Tells log-probabilities, where they were asked for."""
    answer: AnswerReader | None = None
    """Tells thoughts and tool calls from the text; None where that was not asked for."""
    guide: Guide | None = None
    """Of the grammar that its answer is held to."""
    clipped_max_tokens: int | None = None
    deltas: int = 0
    pending_ids: list[int] = field(default_factory=list)
    """Tokens since the last delta."""
    pending_logprobs: list[Logprobs] = field(default_factory=list)
    """Theirs, where they were asked for."""
    prompt_logprobs: int | None = None
    """Of how many of the likeliest tokens those in the prompt's places are told, where they are."""
    prompt_shown: int = 0
    """The prompt's tokens that were told."""
    pending_prompt: list[Logprobs] = field(default_factory=list)
    """What was not told yet of the next ones."""

    def look_at_prompt(self, chunk: Chunk, logits: Logits, first: int) -> None:
        """Note how likely the tokens after those that `chunk` keeps were found; their logits are
        rows from `first` on.

        Raises:
            ComputationFailure: where these are no numbers.
        """
        ids, writer = self.sequence.prompt_ids, self.likelihood
        if writer is None or self.prompt_logprobs is None:
            return
        if chunk.kept.start == 0:
            self.pending_prompt.append(writer.first(ids[0]))
        for row, place in enumerate(chunk.kept[: len(ids) - 1 - chunk.kept.start], start=first):
            draw = likelihood(logits, row, ids[place + 1], self.prompt_logprobs)
            if draw is None:
                raise ComputationFailure(NO_NUMBERS)
            self.pending_prompt.append(writer.of(draw))

    def read(self, draw: Draw) -> Piece:
        """The text that becomes certain with the token that was chosen.

        Raises:
            ConstraintFailure: its grammar cannot be followed any further.
        """
        self.row.accept(draw.id)
        if self.guide is not None:
            self.guide.accept(draw.id)
        if self.sequence.ends_with(draw.id):
            return Piece("")
        self.pending_ids.append(draw.id)
        if self.likelihood is not None and draw.logprob is not None:
            self.pending_logprobs.append(self.likelihood.of(draw))
        piece = self.text.push(draw.id, may_stop=not self.sequence.must_go_on)
        if self.answer is not None:
            parts = tuple(self.answer.push(piece.text))
            is_full = self.answer.is_full and not self.sequence.must_go_on
            piece = replace(piece, parts=parts, is_full=is_full)
        if self.guide is not None and self.guide.done:
            return replace(piece, is_full=True)
        return piece
