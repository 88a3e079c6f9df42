"""Texts, pairs of texts, and texts with masks in them, as a headed encoder reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenizers import Encoding, Tokenizer

from nsedge.api.labels import Text
from nsedge.errors import BundleInvalid, ContextExceeded, InvalidParameter, UnsupportedTask
from nsedge.runtime.text.framing import frame_of_one, frame_of_two
from nsedge.runtime.text.reader import INPUTS, Naming, check_unicode, too_long

MAX_MASKS = 64
"""Of one text: each has a probability for every token of the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a model reads of a text, or of two.

    - ids: tokens, special ones among them.
    - second: where a second text begins, the special tokens before it left out; None where there
      is none.
    - places: of the tokens that are to be judged, where only some are.
    - begin, spans: the first token that was said, and the characters of each from there on; of one
      text alone, where that was asked for.
    """

    ids: tuple[int, ...]
    second: int | None = None
    places: tuple[int, ...] = ()
    begin: int = 0
    spans: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        """In tokens."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A reading that fits, the tokens that were said, and how many of them do."""

    reading: Reading
    tokens: int
    room: int


class SegmentReader:
    """Turns texts and pairs of texts into `Reading`s. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, *, context_length: int) -> None:
        """Take `tokenizer` over: no padding, no truncation, and a special token's name in a text is
        text.

        Raises:
            BundleInvalid: it does not put its special tokens around a text.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._alone = frame_of_one(tokenizer)
        self._paired = frame_of_two(tokenizer)

    def read(
        self, inputs: Sequence[Text], *, truncate: bool, naming: Naming = INPUTS
    ) -> list[Reading]:
        """Each input, special tokens around it. What is too long is cut off at the end, of two
        texts the longer one first, as tokenizers do by default.

        Raises:
            InvalidParameter: a lone surrogate.
            ContextExceeded: an input is longer than the model reads, and is not to be cut off.
            UnsupportedTask: two texts, where the model reads but one.
        """
        parts: list[str] = []
        for number, text in enumerate(inputs):
            both = (text,) if isinstance(text, str) else text
            for part in both:
                check_unicode(part, number, naming)
            parts += both
        encoded = iter(self._tokenizer.encode_batch(parts, add_special_tokens=False))
        readings = []
        for number, text in enumerate(inputs):
            first = next(encoded)
            one = isinstance(text, str)
            found = self._one(first) if one else self._two(first, next(encoded))
            if found.tokens > found.room and not truncate:
                name = naming.name(number)
                raise too_long(name, found.tokens, found.room, param=naming.param)
            readings.append(found.reading)
        return readings

    def _one(self, found: Encoding) -> _Fitted:
        frame, ids = self._alone, found.ids
        room = self._context_length - frame.width
        reading = Reading(
            ids=(*frame.before, *ids[:room], *frame.after),
            begin=len(frame.before),
            spans=tuple(found.offsets[:room]),
        )
        return _Fitted(reading=reading, tokens=len(ids), room=room)

    def _two(self, first: Encoding, second: Encoding) -> _Fitted:
        frame = self._paired
        if frame is None or frame.between is None:
            raise UnsupportedTask("the model's tokenizer takes one text, not two", param="inputs")
        a, b = first.ids, second.ids
        room = self._context_length - frame.width
        of_a, of_b = shares(len(a), len(b), room)
        head = (*frame.before, *a[:of_a], *frame.between)
        reading = Reading(ids=(*head, *b[:of_b], *frame.after), second=len(head))
        return _Fitted(reading=reading, tokens=len(a) + len(b), room=room)


class MaskReader:
    """Turns texts with masks in them into `Reading`s. Thread-safe."""

    def __init__(
        self, tokenizer: Tokenizer, *, mask: str, mask_id: int, context_length: int
    ) -> None:
        """Of the names of special tokens, `mask` alone is one in a text.

        Raises:
            BundleInvalid: there is no such token, or none around a text.
        """
        if tokenizer.token_to_id(mask) != mask_id:
            raise BundleInvalid(f"the tokenizer has no mask {mask!a} with the id {mask_id}")
        self._reader = SegmentReader(knowing(tokenizer, mask), context_length=context_length)
        self._mask, self._mask_id = mask, mask_id

    def read(self, inputs: Sequence[str]) -> list[Reading]:
        """Each input, and where its masks are.

        Raises:
            InvalidParameter: no mask, too many, or a lone surrogate.
            ContextExceeded: an input is longer than the model reads.
        """
        try:
            found = self._reader.read(inputs, truncate=False)
        except ContextExceeded as error:
            told = error.message.partition(", or cuts off")[0]
            raise ContextExceeded(told, param=error.param, figures=error.figures) from error
        return [self._marked(reading, number) for number, reading in enumerate(found)]

    def _marked(self, reading: Reading, number: int) -> Reading:
        places = tuple(at for at, token in enumerate(reading.ids) if token == self._mask_id)
        if not 1 <= len(places) <= MAX_MASKS:
            raise InvalidParameter(
                f"input {number} holds {len(places) or 'no'} masks; 1 to {MAX_MASKS} are filled,"
                f" written {self._mask}",
                param="inputs",
            )
        return replace(reading, places=places)


def knowing(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """A tokenizer for which the special token `name` is a word like others, which no setting takes
    for text.

    Raises:
        BundleInvalid: it is none of the tokenizer's added tokens.
    """
    content = json.loads(tokenizer.to_str())
    entries = [one for one in content.get("added_tokens") or () if one["content"] == name]
    if not entries:
        raise BundleInvalid(f"the tokenizer does not list {name!a} among its added tokens")
    entries[0]["special"] = False
    return Tokenizer.from_str(json.dumps(content))


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts with so many fit: the longer one is cut first."""
    if first + second <= room:
        return first, second
    less, more = min(first, second), max(first, second)
    more = less if less > room else max(less, room - less)
    if less + more > room:
        less = room // 2
        more = less + room % 2
    return (less, more) if first <= second else (more, less)
