"""Which row holds which prefix, against a search through all rows."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nsedge.runtime.decode.prefix import Match, PrefixIndex

ROWS, BLOCK = 4, 3


def index_with(**rows: str) -> PrefixIndex:
    """Rows r0, r1, ... that hold the characters of a text."""
    index = PrefixIndex(rows=ROWS, block_tokens=BLOCK)
    for name, text in rows.items():
        index.extend(int(name[1:]), ids(text))
    return index


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_the_longest_prefix_is_found_in_whole_blocks() -> None:
    index = index_with(r0="abcdefgh", r1="abcxyz")
    assert index.longest(ids("abcdefgh")) == Match(6, frozenset({0}))
    assert index.longest(ids("abcdeX")) == Match(3, frozenset({0, 1}))
    assert index.longest(ids("zbc")) == Match(0, frozenset())


def test_what_was_read_through_an_adapter_is_no_prefix_for_others() -> None:
    index = PrefixIndex(rows=ROWS, block_tokens=BLOCK)
    text = ids("abcdefgh")
    for row, adapter in enumerate((None, "one", "two")):
        assert index.longest(text, adapter).tokens == 0
        index.extend(row, text, adapter)
        index.check()
        assert index.longest(text, adapter) == Match(6, frozenset({row}))
    index.cut(1, 3)
    assert index.longest(text, "one") == Match(3, frozenset({1}))
    index.copy(2, 3, 6)
    assert index.longest(text, "two").rows == {2, 3}
    index.clear()
    index.check()


def test_the_last_two_tokens_are_never_taken_from_elsewhere() -> None:
    index = index_with(r0="abcdef")
    assert index.longest(ids("abcdef")).tokens == 3
    assert index.longest(ids("abcdefg")).tokens == 3
    assert index.longest(ids("abcdefgh")).tokens == 6
    assert index.longest(ids("")).tokens == 0


def test_a_row_goes_on_and_is_cut() -> None:
    index = index_with(r0="abcd")
    index.extend(0, ids("abcdefghi"))
    assert index.tokens(0) == 9
    index.cut(0, 5)
    assert index.longest(ids("abcdefghijk")) == Match(3, frozenset({0}))
    index.check()


def test_rows_change_places_and_share() -> None:
    index = index_with(r0="abcdef", r2="xyz")
    index.swap(0, 2)
    index.copy(2, 1, 3)
    assert index.longest(ids("abcdef!!")) == Match(6, frozenset({2}))
    assert index.longest(ids("abc!!")) == Match(3, frozenset({1, 2}))
    assert index.longest(ids("xyz!!")) == Match(3, frozenset({0}))
    index.clear()
    assert index.longest(ids("abcdef!!")) == Match(0, frozenset())
    index.check()


def test_what_does_not_agree_is_told() -> None:
    index = index_with(r0="abc")
    index._rows[0].path.append(index._rows[0].path[0])
    index._rows[0].path[0].holders.clear()
    with pytest.raises(RuntimeError, match="row 0"):
        index.check()


texts = st.text("ab", max_size=14)
rows = st.integers(0, ROWS - 1)


class IndexMachine(RuleBasedStateMachine):
    """Any order of changes; every answer is compared with one found by looking at all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(rows=ROWS, block_tokens=BLOCK)
        self.held = [""] * ROWS

    @rule(row=rows, text=texts)
    def extend(self, row: int, text: str) -> None:
        whole = self.held[row] + text
        self.index.extend(row, ids(whole))
        self.held[row] = whole[: len(whole) // BLOCK * BLOCK]

    @rule(row=rows, tokens=st.integers(0, 20))
    def cut(self, row: int, tokens: int) -> None:
        self.index.cut(row, tokens)
        self.held[row] = self.held[row][: tokens // BLOCK * BLOCK]

    @rule(giver=rows, taker=rows, tokens=st.integers(0, 20))
    def copy(self, giver: int, taker: int, tokens: int) -> None:
        if giver != taker:
            self.index.copy(giver, taker, tokens)
            self.held[taker] = self.held[giver][: tokens // BLOCK * BLOCK]

    @rule(first=rows, second=rows)
    def swap(self, first: int, second: int) -> None:
        self.index.swap(first, second)
        self.held[first], self.held[second] = self.held[second], self.held[first]

    @rule(text=texts)
    def ask(self, text: str) -> None:
        match = self.index.longest(ids(text))
        lengths = range(0, len(text) - 1, BLOCK)
        longest = max((n for n in lengths if self.found(text[:n])), default=0)
        assert match.tokens == longest
        if longest:
            holders = [r for r, held in enumerate(self.held) if held.startswith(text[:longest])]
            assert match.rows == frozenset(holders)

    def found(self, text: str) -> bool:
        return any(held.startswith(text) for held in self.held)

    @invariant()
    def agrees(self) -> None:
        self.index.check()
        assert [self.index.tokens(row) for row in range(ROWS)] == list(map(len, self.held))


IndexMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestIndexMachine = IndexMachine.TestCase
