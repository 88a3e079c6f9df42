"""Which tokens may come next in a window (the filters of OpenAI's whisper/decoding.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.speech.vocabulary import TOKEN_S, SpeechTokens

MAX_FIRST_S = 1.0
"""No window begins with a later timestamp."""
_NEVER = -np.inf


class Rules:
    """The rules of one decoding: what is suppressed, and how timestamps follow each other.

    Timestamps stand in pairs around a segment, never fall, and a segment is never empty. Where all
    timestamps together are likelier than any text, one comes.
    """

    def __init__(
        self, tokens: SpeechTokens, *, timestamps: bool = True, begun: tuple[int, ...] = ()
    ) -> None:
        """timestamps: False has text alone, behind <|notimestamps|>. begun: tokens that stand in
        the window already, as the end of the prompt."""
        self._tokens = tokens
        self._timestamps = timestamps
        self._begun = begun
        self._suppressed = np.array(tokens.suppressed, np.int64)
        self._first = np.array((*tokens.suppressed_first, tokens.end), np.int64)

    def apply(self, logits: NDArray[np.float32], drawn: Sequence[int]) -> None:
        """Set what may not come next to -inf, in `logits` [V] of one row; `drawn`: its tokens in
        this window so far."""
        if self._begun:
            drawn = (*self._begun, *drawn)
        tokens = self._tokens
        end, first_timestamp = tokens.end, tokens.first_timestamp
        logits[self._suppressed] = _NEVER
        logits[end + 1 : first_timestamp] = _NEVER
        if not drawn:
            logits[self._first] = _NEVER
        if not self._timestamps:
            logits[first_timestamp:] = _NEVER
            return
        self._pair(logits, drawn)
        if not drawn:
            logits[first_timestamp + round(MAX_FIRST_S / TOKEN_S) + 1 :] = _NEVER
        self._prefer_timestamps(logits)

    def _pair(self, logits: NDArray[np.float32], drawn: Sequence[int]) -> None:
        first = self._tokens.first_timestamp
        if not drawn:
            logits[:first] = _NEVER  # a window begins with a timestamp
            return
        after_timestamp = drawn[-1] >= first
        closed = after_timestamp and len(drawn) > 1 and drawn[-2] < first
        if closed:  # another segment, which begins no earlier, or the end
            logits[: self._tokens.end] = _NEVER
        elif after_timestamp:
            logits[first:] = _NEVER
        last = next((token for token in reversed(drawn) if token >= first), None)
        if last is not None:
            logits[first : last if closed else last + 1] = _NEVER

    def _prefer_timestamps(self, logits: NDArray[np.float32]) -> None:
        first = self._tokens.first_timestamp
        times, text = logits[first:], logits[:first]
        highest = times.max(initial=_NEVER)
        if highest == _NEVER:
            return
        together = highest + np.log(np.exp(times - highest).sum())
        if together > text.max(initial=_NEVER):
            text[:] = _NEVER
