"""Which sequence holds which row of KV memory, what else the rows hold, and what is to be copied.

Every row keeps what it holds until another sequence fills it, so that a prompt which begins alike
goes on from there. Moves are noted here and made by the next step, before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from nsedge.runtime.decode.conditioning import Key
from nsedge.runtime.decode.plan import KvCopy, KvSwap
from nsedge.runtime.decode.prefix import PrefixIndex
from nsedge.runtime.decode.sequence import Sequence, State
from nsedge.runtime.decode.slots import Exchange, Slots
from nsedge.runtime.settings import PrefixReuse


class Placement:
    """Sequences in rows: `running` are those that decode, `filling` those with prompts to read."""

    def __init__(self, *, slots: Slots, reuse: PrefixReuse, block_tokens: int) -> None:
        self._slots = slots
        self._reuse = reuse
        self._index = PrefixIndex(rows=slots.count, block_tokens=block_tokens)
        self._copies: list[KvCopy | KvSwap] = []
        self.running: list[Sequence] = []
        """Where rows have to be contiguous, the sequence of row i at index i."""
        self.filling: dict[int, Sequence] = {}
        self.query_tokens = 0
        """Prompt tokens that a prefix was looked for of."""
        self.hit_tokens = 0
        """Those that were found."""

    @property
    def free(self) -> int:
        """Rows that can be taken."""
        return self._slots.free

    @property
    def reading(self) -> list[Sequence]:
        """Those of the filling sequences whose prompts are read."""
        return [sequence for sequence in self.filling.values() if sequence.leads]

    def holding(self) -> list[Sequence]:
        """Every sequence that holds a row."""
        return [*self.running, *self.filling.values()]

    def take_copies(self) -> tuple[KvCopy | KvSwap, ...]:
        """What the next step has to copy before it runs, in order."""
        copies, self._copies = tuple(self._copies), []
        return copies

    def admit(self, sequence: Sequence) -> None:
        """Give a waiting sequence a free row, with as much of its prompt as can be had.

        Raises:
            RuntimeError: where no row is free.
        """
        sequence.move(State.PREFILL)
        row, tokens = self._place(sequence.reusable_keys, sequence.adapter)
        sequence.row = self._slots.take(row)
        sequence.kv_length = tokens
        self.filling[row] = sequence

    def holder(self, sequence: Sequence) -> Sequence | None:
        """A running sequence whose row holds the prompt that `sequence` continues as well."""
        siblings = sequence.siblings
        if siblings is None:
            return None
        return next((one for one in self.running if one.siblings is siblings), None)

    def reserve(self, sequence: Sequence) -> None:
        """Give a waiting sequence a free row, which `join` fills.

        Raises:
            RuntimeError: where no row is free.
        """
        sequence.move(State.PREFILL)
        row = self._slots.take(self._slots.oldest())
        self._index.cut(row, 0)
        sequence.row, sequence.kv_length = row, 0
        self.filling[row] = sequence

    def join(self, sequence: Sequence, source: Sequence) -> None:
        """Copy the whole prompt as `source` holds it to the row of a sequence, and let that run:
        what follows the prompt is known to who asks."""
        row, tokens = sequence.held_row, len(sequence.prompt_ids)
        sequence.kv_length = tokens
        self._index.copy(source.held_row, row, tokens)
        self._copies.append(KvCopy(source.held_row, row, tokens))
        self.promote(sequence)

    def fork(self, sequence: Sequence, source: Sequence) -> None:
        """Give a waiting sequence a free row, and have it `join` what `source` holds.

        Raises:
            RuntimeError: where no row is free.
        """
        self.reserve(sequence)
        self.join(sequence, source)

    def reorder(self, beams: Many[Sequence], parents: Many[int]) -> None:
        """Have each beam go on from what its parent holds, the number of a beam: of its row, what
        is not the same yet is copied. A beam that is not its own parent is nobody's."""
        held = [beam.output_ids for beam in beams]
        for number, parent in enumerate(parents):
            if parent == number:
                continue
            beam, source = beams[number], beams[parent]
            shared = len(beam.prompt_ids) + _common(held[number], held[parent])
            if shared < source.kv_length:
                copy = KvCopy(source.held_row, beam.held_row, source.kv_length, shared)
                self._copies.append(copy)
            beam.output_ids = held[parent].copy()

    def succeed(self, sequence: Sequence, heir: Sequence) -> None:
        """Give the row of a running sequence to a waiting one that continues its prompt."""
        heir.move(State.PREFILL)
        heir.move(State.RUNNING)
        heir.row, heir.kv_length = sequence.held_row, len(heir.prompt_ids)
        self._index.cut(heir.held_row, heir.kv_length)
        self.running[self.running.index(sequence)] = heir

    def promote(self, sequence: Sequence) -> None:
        """Let a sequence whose tokens are all read decode from the next step on."""
        row = sequence.held_row
        del self.filling[row]
        exchange = self._slots.promote(row)
        if exchange is not None:
            self._move(exchange, sequence)
        sequence.move(State.RUNNING)
        self.running.append(sequence)

    def note(self, sequence: Sequence) -> None:
        """Let what the sequence's row holds be found."""
        if self._reuse is not PrefixReuse.OFF:
            all_of_it = self._reuse is PrefixReuse.FULL
            end = sequence.kv_length
            keys = sequence.kv_keys if all_of_it else sequence.prompt_keys[:end]
            self._index.extend(sequence.held_row, keys, sequence.adapter)

    def release(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Take the row of a sequence; what it holds stays to be found, where it is to `keep` it."""
        row = sequence.held_row
        if keep:
            self.note(sequence)
        else:
            self._index.cut(row, 0)
        if sequence.state is State.PREFILL:
            del self.filling[row]
            self._slots.give_filling(row)
            return
        self.running.remove(sequence)
        exchange = self._slots.give(row)
        if exchange is not None:
            last = self.running.pop()
            self.running.insert(row, last)
            self._move(exchange, last)

    def forget(self) -> None:
        """Nothing that rows hold can be trusted, and nothing is copied."""
        self._copies.clear()
        self._index.clear()

    def check(self) -> None:
        """Raise RuntimeError where slots, rows and sequences do not agree."""
        self._slots.check()
        self._index.check()
        if (self._slots.running, self._slots.filling) != (len(self.running), len(self.filling)):
            raise RuntimeError("slots and sequences differ in number")
        contiguous = self._slots.contiguous
        rows = enumerate(self.running) if contiguous else ((s.row, s) for s in self.running)
        for row, sequence in [*rows, *self.filling.items()]:
            state = State.PREFILL if row in self.filling else State.RUNNING
            if row is None or (sequence.row, sequence.state) != (row, state):
                raise RuntimeError(f"row {row} holds a sequence that is elsewhere")
            if self._index.tokens(row) > sequence.kv_length:
                raise RuntimeError(f"row {row} does not hold all that may be found in it")

    def _place(self, keys: tuple[Key, ...], adapter: str | None) -> tuple[int, int]:
        """A free row for `keys` through `adapter`, and how many of them it holds then."""
        oldest = self._slots.oldest()
        if self._reuse is PrefixReuse.OFF:
            return oldest, 0
        match = self._index.longest(keys, adapter)
        self.query_tokens += len(keys)
        self.hit_tokens += match.tokens
        if not match.tokens:
            self._index.cut(oldest, 0)
            return oldest, 0
        for row in match.rows:
            # A row that holds more is worth keeping whole, unless its turn to go has come.
            whole = self._index.tokens(row) == match.tokens
            if row == oldest or (whole and self._slots.is_free(row)):
                self._index.cut(row, match.tokens)
                return row, match.tokens
        source = min(match.rows)
        self._index.copy(source, oldest, match.tokens)
        self._copies.append(KvCopy(source, oldest, match.tokens))
        return oldest, match.tokens

    def _move(self, exchange: Exchange, moved: Sequence) -> None:
        """Move a sequence to another row, and keep what lies there."""
        source, target = exchange.source, exchange.target
        displaced = self.filling.pop(target, None)
        if displaced is not None:
            displaced.row = source
            self.filling[source] = displaced
        kept = self._index.tokens(target) if displaced is None else displaced.kv_length
        if kept:
            self._copies.append(KvSwap(source, target, max(kept, moved.kv_length)))
        else:
            self._copies.append(KvCopy(source, target, moved.kv_length))
        self._index.swap(source, target)
        moved.row = target


def _common(one: Many[int], other: Many[int]) -> int:
    """How many tokens two outputs begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
