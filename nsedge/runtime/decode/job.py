"""A request as the engine works on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nsedge.api import Logprobs
from nsedge.runtime.decode.likelihood import LogprobWriter
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Draw
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.delivery import Emit
from nsedge.runtime.text.answer.reader import AnswerReader
from nsedge.runtime.text.detokenizer import Piece, TextStream


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
    clipped_max_tokens: int | None = None
    deltas: int = 0
    pending_ids: list[int] = field(default_factory=list)
    """Tokens since the last delta."""
    pending_logprobs: list[Logprobs] = field(default_factory=list)
    """Theirs, where they were asked for."""

    def read(self, draw: Draw) -> Piece:
        """The text that becomes certain with the token that was chosen."""
        self.row.accept(draw.id)
        if self.sequence.ends_with(draw.id):
            return Piece("")
        self.pending_ids.append(draw.id)
        if self.likelihood is not None:
            self.pending_logprobs.append(self.likelihood.of(draw))
        piece = self.text.push(draw.id, may_stop=not self.sequence.must_go_on)
        if self.answer is None:
            return piece
        parts = tuple(self.answer.push(piece.text))
        is_full = self.answer.is_full and not self.sequence.must_go_on
        return replace(piece, parts=parts, is_full=is_full)
