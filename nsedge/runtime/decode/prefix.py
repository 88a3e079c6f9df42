"""Which row holds which tokens, in blocks, so that a prompt finds the longest prefix of it.

A tree of blocks: a path from the root is a prefix, and every block knows what holds it. Blocks are
compared by their tokens, not by a hash of them, so that a match is never a mistake. What was read
through an adapter is found by prompts for the same one only: its keys and values are others. In the
place of a token that stands for a picture is the picture's name: what was read of one is no prefix
of a prompt about another.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from nsedge.runtime.decode.conditioning import Key

BLOCK_TOKENS = 16
"""Prefixes are shared in whole blocks of so many tokens."""


_Key = tuple[int | str | None, ...]
"""A block's tokens; those of a first block come after the name of the adapter."""


@dataclass(frozen=True, slots=True)
class Match:
    """A prefix of `tokens` tokens, and the rows that hold it; none where nothing matches."""

    tokens: int
    rows: frozenset[int]


@dataclass(eq=False, slots=True)
class _Block:
    """A block of tokens after those of its parents."""

    ids: _Key
    parent: _Block | None
    children: dict[_Key, _Block] = field(default_factory=dict)
    holders: set[_Holding] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class _Holding:
    """The blocks of a row, from the first on."""

    row: int
    path: list[_Block] = field(default_factory=list)


class PrefixIndex:
    """Follows what rows hold. Costs follow the blocks that change, never the number of rows."""

    def __init__(self, *, rows: int, block_tokens: int = BLOCK_TOKENS) -> None:
        self._block_tokens = block_tokens
        self._root = _Block((), None)
        self._rows = [_Holding(row) for row in range(rows)]

    def tokens(self, row: int) -> int:
        """Tokens of `row` that may be found."""
        return len(self._rows[row].path) * self._block_tokens

    def longest(self, ids: Many[Key], adapter: str | None = None) -> Match:
        """The longest prefix that some row holds, read through `adapter`, short of the last two
        tokens of `ids`: the logits that follow must be computed, and a token by itself is rounded
        another way."""
        size, block, tokens = self._block_tokens, self._root, 0
        while tokens + size + 2 <= len(ids):
            child = block.children.get(self._key(ids, tokens, adapter))
            if child is None:
                break
            block, tokens = child, tokens + size
        return Match(tokens, frozenset(holding.row for holding in block.holders))

    def extend(self, row: int, ids: Many[Key], adapter: str | None = None) -> None:
        """`row` holds `ids` now, read through `adapter`, which begin with what it held."""
        size, holding = self._block_tokens, self._rows[row]
        block = holding.path[-1] if holding.path else self._root
        for start in range(self.tokens(row), len(ids) - size + 1, size):
            key = self._key(ids, start, adapter)
            child = block.children.get(key)
            if child is None:
                child = block.children[key] = _Block(key, block)
            child.holders.add(holding)
            holding.path.append(child)
            block = child

    def _key(self, ids: Many[Key], start: int, adapter: str | None) -> _Key:
        block = tuple(ids[start : start + self._block_tokens])
        return block if start else (adapter, *block)

    def cut(self, row: int, tokens: int) -> None:
        """`row` keeps the first `tokens` tokens at most, in whole blocks."""
        holding = self._rows[row]
        while len(holding.path) * self._block_tokens > tokens:
            block = holding.path.pop()
            block.holders.remove(holding)
            if not block.holders and block.parent is not None:
                del block.parent.children[block.ids]

    def copy(self, source: int, target: int, tokens: int) -> None:
        """`target` holds the first `tokens` tokens of `source`, and nothing else."""
        self.cut(target, 0)
        holding = self._rows[target]
        holding.path = self._rows[source].path[: tokens // self._block_tokens]
        for block in holding.path:
            block.holders.add(holding)

    def swap(self, first: int, second: int) -> None:
        """Each of two rows holds what the other held."""
        one, other = self._rows[first], self._rows[second]
        one.row, other.row = second, first
        self._rows[first], self._rows[second] = other, one

    def clear(self) -> None:
        """No row holds anything."""
        for row in range(len(self._rows)):
            self.cut(row, 0)

    def check(self) -> None:
        """Raise RuntimeError where rows and blocks do not agree."""
        held: set[_Block] = set()
        for row, holding in enumerate(self._rows):
            if holding.row != row or any(holding not in block.holders for block in holding.path):
                raise RuntimeError(f"row {row} and its blocks do not agree")
            held.update(holding.path)
        reachable = [self._root]
        for block in reachable:
            reachable += block.children.values()
        if set(reachable) - {self._root} != held:
            raise RuntimeError("a block that no row holds, or one that cannot be found")
