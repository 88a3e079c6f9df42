"""One answer's way through its grammar: which tokens may come, are forced, and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.errors import ConstraintFailure

SHOWN = 300
"""Characters of a grammar engine's own words that an error repeats."""
_WORDS = {
    "<non-verbose/>": "",
    "NoExtensionBias": "nothing that the model's tokens can write fits",
    "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with"
    " anyOf": "oneOf is supported only where its schemas exclude each other",
}
"""Of those, the ones that say too little."""


class Matcher(Protocol):
    """A grammar and how far an answer is in it: llguidance's `LLMatcher`. For one thread at a
    time. Where it fails it says so by `is_error`, for ever, and raises nothing."""

    def consume_token(self, sampled_token: int) -> bool:
        """Take the next token; False where it is not allowed."""

    def validate_tokens(self, tokens: list[int]) -> int:
        """How many of the tokens could come next, one after the other."""

    def compute_ff_tokens(self) -> list[int]:
        """The tokens that are all that can come next."""

    def is_stopped(self) -> bool:
        """Whether nothing but an end of sequence can come, or it has failed."""

    def is_error(self) -> bool:
        """Whether it has failed."""

    def get_error(self) -> str:
        """Why."""

    def unsafe_compute_mask_ptr(self, trg_pointer: int, trg_byte_size: int) -> None:
        """Write the tokens that may come next, a bit each, to an address."""


class Guide:
    """Used by one thread at a time: by who makes masks until the `pending` one is there, then by
    the engine."""

    def __init__(
        self,
        matcher: Matcher,
        mask: NDArray[np.uint32],
        *,
        ends: NDArray[np.uint32] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """`matcher` is at the beginning of its grammar; `mask` says what may come there. `ends`:
        tokens that do not come where anything else may. `failed` is told when the grammar cannot
        be followed any further."""
        self.matcher = matcher
        self._mask = mask.copy()
        self._avoided = ends
        self._failed = failed
        self._avoid()
        self.pending: Future[None] | None = None
        """Of the mask that is being made."""

    def mask(self) -> NDArray[np.uint32]:
        """The tokens that may come next, a bit each: uint32 [ceil(V / 32)]; of a grammar that
        cannot be followed any further, anything. Waits for it where it is still being made."""
        self._wait()
        return self._mask

    def accept(self, token_id: int) -> None:
        """Take the token that was chosen.

        Raises:
            ConstraintFailure: the grammar does not allow it, or cannot be followed any further.
        """
        self._wait()
        self.matcher.consume_token(token_id)
        self._check()

    @property
    def done(self) -> bool:
        """Whether the answer is whole, and nothing can be added to it."""
        return self.matcher.is_stopped()

    def forced(self) -> Many[int]:
        """The tokens that must come next, whatever a model says; they are not taken yet.

        Raises:
            ConstraintFailure: the grammar cannot be followed any further.
        """
        tokens = self.matcher.compute_ff_tokens()
        self._check()
        return tokens

    def allowed(self, tokens: Many[int]) -> Many[int]:
        """As many of `tokens` as may come next, one after the other."""
        self._wait()
        return tokens[: self.matcher.validate_tokens(list(tokens))]

    def fill(self) -> None:
        """Make the mask anew. Lets other threads work meanwhile."""
        self.matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._avoid()

    def _avoid(self) -> None:
        if self._avoided is not None and (rest := self._mask & ~self._avoided).any():
            self._mask[:] = rest

    def _wait(self) -> None:
        if self.pending is not None:
            self.pending.result()
            self.pending = None

    def _check(self) -> None:
        if self.matcher.is_error():
            if self._failed is not None:
                self._failed()
            raise ConstraintFailure(
                f"the answer cannot be held to its constraint: {told(self.matcher.get_error())}"
            )


def told(words: str) -> str:
    """What a grammar engine says, in one line."""
    for theirs, ours in _WORDS.items():
        words = words.replace(theirs, ours)
    line = " ".join(words.split()) or "no reason given"
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} ..."
