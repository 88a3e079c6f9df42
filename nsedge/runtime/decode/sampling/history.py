"""What a row's tokens so far forbid, or make less likely: n-grams, bad words, repetitions."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from typing import Self

import numpy as np

from nsedge.api import Dry
from nsedge.runtime.decode.sampling.logits import Floats, Ids

TokenText = Callable[[int], bytes]
"""The text of a token."""
GREATEST_PENALTY = 1e30
"""Of a repetition, however long."""


class Ban(ABC):
    """Forbids tokens by what stands before them."""

    @abstractmethod
    def add(self, token_id: int) -> None:
        """A token of the output."""

    @abstractmethod
    def ids(self) -> Iterable[int]:
        """The tokens that may not come next."""

    @abstractmethod
    def forked(self) -> Self:
        """The same for a text that goes on in another way."""


class NoRepeat(Ban):
    """No n tokens of prompt and output stand together twice (arXiv 1705.04304)."""

    def __init__(self, size: int, prompt_ids: Iterable[int]) -> None:
        self._before: list[int] = []
        """The newest size - 1 tokens."""
        self._after: dict[tuple[int, ...], set[int]] = {}
        """What came after each size - 1 tokens."""
        self._size = size
        for token in prompt_ids:
            self.add(token)

    def add(self, token_id: int) -> None:
        """Note the n-gram that it completes."""
        if len(self._before) == self._size - 1:
            self._after.setdefault(tuple(self._before), set()).add(token_id)
        self._before.append(token_id)
        del self._before[: max(0, len(self._before) - self._size + 1)]

    def ids(self) -> Iterable[int]:
        """What would complete an n-gram that was there."""
        if len(self._before) < self._size - 1:
            return ()
        return self._after.get(tuple(self._before), ())

    def forked(self) -> Self:
        """With notes of its own."""
        fork = copy.copy(self)
        fork._before = self._before.copy()
        fork._after = {before: after.copy() for before, after in self._after.items()}
        return fork


class BadWords(Ban):
    """Sequences of tokens of which no output holds one."""

    def __init__(self, words: Many[tuple[int, ...]]) -> None:
        self._words = words
        self._longest = max(map(len, words), default=0)
        self._output: list[int] = []

    def add(self, token_id: int) -> None:
        """Keep as many as matter."""
        self._output.append(token_id)
        del self._output[: max(0, len(self._output) - self._longest)]

    def ids(self) -> Iterable[int]:
        """The last token of each word whose others have just come."""
        for *begin, last in self._words:
            if not begin or self._output[-len(begin) :] == begin:
                yield last

    def forked(self) -> Self:
        """With an output of its own."""
        fork = copy.copy(self)
        fork._output = self._output.copy()
        return fork


class Breakers:
    """Finds in a growing text the strings that no repetition reaches across."""

    def __init__(self, breakers: Iterable[str], text_of: TokenText) -> None:
        self._breakers = [text.encode(errors="surrogatepass") for text in breakers]
        self._held = max(map(len, self._breakers), default=1) - 1
        self._text_of = text_of
        self._tail = b""

    def begin(self, ids: Many[int], reach: int) -> int:
        """Take up `ids`; how many of the newest `reach` of them no breaker ends in or behind."""
        texts: list[bytes] = []
        missing = self._held
        for token in reversed(ids):
            if len(texts) >= reach and missing <= 0:
                break
            texts.insert(0, self._text_of(token))
            missing -= len(texts[0]) if len(texts) > reach else 0
        text = b"".join(texts)
        broken = max(
            (text.rfind(one) + len(one) for one in self._breakers if one in text), default=0
        )
        free, end = 0, len(text)
        for one in reversed(texts):
            if broken > end - len(one) or free == reach:
                break
            end -= len(one)
            free += 1
        self._tail = b"" if not self._held else text[max(0, len(text) - self._held) :]
        return free

    def push(self, token_id: int) -> bool:
        """Whether a breaker ends within the token."""
        text = self._tail + self._text_of(token_id)
        held = len(self._tail)
        found = any(text.rfind(one) + len(one) > held for one in self._breakers if one in text)
        self._tail = text[len(text) - self._held :] if self._held else b""
        return found

    def ends_in(self, token_id: int) -> bool:
        """Whether a breaker would end within the token, were it pushed."""
        return bool(self._breakers) and self.forked().push(token_id)

    def forked(self) -> Breakers:
        """The same for a text that goes on in another way."""
        return copy.copy(self)

    def within(self, token_id: int) -> bool:
        """Whether the token's own text has a breaker."""
        text = self._text_of(token_id)
        return any(one in text for one in self._breakers)


class Repeats:
    """Which tokens would go on with a repetition, and how long it is (DRY, "don't repeat yourself":
    text-generation-webui's pull request 5677, by p-e-w; llama.cpp's 9702).

    For every place, how many tokens up to it are the same as the newest ones; a further token makes
    that one more where it is the same as the one at the place after, and nothing everywhere else.
    """

    def __init__(self, dry: Dry, prompt_ids: Many[int], text_of: TokenText) -> None:
        self._dry = dry
        self._breakers = Breakers(dry.sequence_breakers, text_of)
        size = max(64, 2 * len(prompt_ids))
        self._ids: Ids = np.zeros(size, np.int64)
        self._lengths = np.zeros(size, np.int32)
        self._count = len(prompt_ids)
        self._ids[: self._count] = prompt_ids
        self._compare()
        longest = int(self._lengths[: self._count].max(initial=0))
        free = self._breakers.begin(prompt_ids, longest)
        np.minimum(self._lengths, free, out=self._lengths)

    def _compare(self) -> None:
        """Find the lengths of all places at once: those that are the same in one token, of them
        those that are in two, and so on."""
        ids = self._ids[: self._count]
        same = np.arange(self._count - 1)
        for back in range(self._count):
            same = same[same >= back]
            same = same[ids[same - back] == ids[self._count - 1 - back]]
            if not same.size:
                break
            self._lengths[same] += 1

    def add(self, token_id: int) -> None:
        """Append a token."""
        count = self._count
        if count == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        ids, lengths = self._ids[:count], self._lengths[:count]
        if self._breakers.push(token_id):
            lengths[:] = 0
        else:
            lengths[1:] = np.where(ids[1:] == token_id, lengths[:-1] + 1, 0)
            lengths[:1] = ids[:1] == token_id
        self._ids[count], self._lengths[count] = token_id, 0
        self._count = count + 1

    def penalties(self) -> tuple[Ids, Floats]:
        """The tokens that would go on, each once, and what is subtracted from their logits."""
        dry = self._dry
        start = 0 if dry.penalty_last_n < 0 else max(0, self._count - dry.penalty_last_n)
        lengths = self._lengths[start : self._count - 1]
        lengths = np.minimum(lengths, np.arange(1, len(lengths) + 1))  # nothing before the window
        at = np.flatnonzero(lengths >= dry.allowed_length)
        tokens, place = np.unique(self._ids[start + 1 + at], return_inverse=True)
        longest = np.zeros(len(tokens))
        np.maximum.at(longest, place, lengths[at])
        bound = np.array([not self._breakers.within(token) for token in tokens.tolist()], np.bool_)
        tokens, longest = tokens[bound], longest[bound]
        with np.errstate(over="ignore"):
            amounts = dry.multiplier * dry.base ** (longest - dry.allowed_length)
        return tokens, np.minimum(amounts, GREATEST_PENALTY).astype(np.float32)
