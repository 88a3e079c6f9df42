"""The special tokens that a tokenizer puts around a text, and around two."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from nsedge.errors import BundleInvalid

_PROBE = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Tokens before a text, and behind it; between two, where `between` is not None."""

    before: tuple[int, ...]
    between: tuple[int, ...] | None
    after: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many there are."""
        return len(self.before) + len(self.between or ()) + len(self.after)


def frame_of_one(tokenizer: Tokenizer) -> Frame:
    """What stands around a text.

    Raises:
        BundleInvalid: the tokenizer does not put its special tokens around it.
    """
    plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    around = tokenizer.encode(_PROBE, add_special_tokens=True).ids
    starts = _places(around, plain)
    if not starts:
        raise BundleInvalid("the tokenizer does not put its special tokens around a text")
    first = starts[0]
    return Frame(
        before=tuple(around[:first]), between=None, after=tuple(around[first + len(plain) :])
    )


def frame_of_two(tokenizer: Tokenizer) -> Frame | None:
    """What stands around two texts; None where nothing stands between them."""
    plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    around = tokenizer.encode(_PROBE, _PROBE, add_special_tokens=True).ids
    starts = _places(around, plain)
    if len(starts) < 2:
        return None
    first, last = starts[0], starts[-1]
    between = tuple(around[first + len(plain) : last])
    if not between:
        return None
    return Frame(
        before=tuple(around[:first]), between=between, after=tuple(around[last + len(plain) :])
    )


def _places(within: list[int], part: list[int]) -> list[int]:
    size = len(part)
    if not size:
        return []
    return [at for at in range(len(within) - size + 1) if within[at : at + size] == part]
