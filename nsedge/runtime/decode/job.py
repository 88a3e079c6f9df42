"""A request as the engine works on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.delivery import Emit
from nsedge.runtime.text.detokenizer import Piece, TextStream


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A sequence, how its tokens are chosen, and what becomes of them."""

    request_id: str
    sequence: Sequence
    row: SamplerRow
    text: TextStream
    emit: Emit
    clipped_max_tokens: int | None = None
    deltas: int = 0
    pending_ids: list[int] = field(default_factory=list)
    """Tokens since the last delta."""

    def read(self, token_id: int) -> Piece:
        """The text that becomes certain with the token that was chosen."""
        self.row.accept(token_id)
        if self.sequence.ends_with(token_id):
            return Piece("")
        self.pending_ids.append(token_id)
        return self.text.push(token_id, may_stop=not self.sequence.must_go_on)
