"""Adapters side by side: the matrices that a run reads, and which token goes through which.

A product W x of the base becomes W x + ((x A) * mask) B. All loaded adapters lie in A and B along
the rank, and the mask is 1 where a token's request uses an adapter and 0 elsewhere, so that one run
serves any mixture of adapters and of none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.adapter import A_INPUT, B_INPUT, MASK_INPUT
from nsedge.bundle.sites import Site
from nsedge.errors import BundleInvalid

LARGEST = 1e20
"""Of a matrix's numbers. In the rows of others `x A` is multiplied by zero, which leaves nothing of
a number but makes NaN of infinity: sums of products with what a model computes must not overflow.
"""

Matrices = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Module -> float32 [rank, input width] and [rank, output width]."""


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbours in a stack, `first` to `last` inclusive."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Owned:
    """So many tokens of a run, and the adapter they go through, if any."""

    adapter: str | None
    tokens: int


@dataclass(frozen=True, slots=True)
class _Block:
    """What an adapter adds at a site: float32 [rank, input width] and [rank, outputs]."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]


class LoadedAdapter:
    """An adapter's matrices, put together as the sites of a graph have its modules."""

    def __init__(self, key: str, blocks: Mapping[str, _Block]) -> None:
        """`key` tells its weights from all others, `blocks` are by site."""
        self.key = key
        self._blocks = blocks

    @classmethod
    def of(cls, key: str, sites: Iterable[Site], matrices: Matrices) -> LoadedAdapter:
        """Put `matrices` together.

        Raises:
            BundleInvalid: a matrix that does not fit its module, or belongs to none, or has numbers
                beyond `LARGEST`.
        """
        sites = tuple(sites)
        known = {part.module for site in sites for part in site.parts}
        if unknown := sorted(set(matrices) - known):
            raise BundleInvalid(f"an adapter changes {unknown[0]}, which no product of its base is")
        return cls(key, {site.name: _assemble(site, matrices) for site in sites})

    @property
    def nbytes(self) -> int:
        """What its matrices take."""
        return sum(block.a.nbytes + block.b.nbytes for block in self._blocks.values())

    def at(self, site: Site) -> _Block:
        """What it adds there."""
        return self._blocks[site.name]


def _assemble(site: Site, matrices: Matrices) -> _Block:
    """The matrices of a site's modules as one pair: the second one has a block for each module."""
    found = [(part, matrices.get(part.module)) for part in site.parts]
    rank = sum(len(pair[0]) for _, pair in found if pair is not None)
    a = np.zeros((rank, site.width), np.float32)
    b = np.zeros((rank, site.outputs), np.float32)
    row = column = 0
    for part, pair in found:
        if pair is not None:
            own = len(pair[0])
            if pair[0].shape != (own, site.width) or pair[1].shape != (own, part.width):
                raise BundleInvalid(
                    f"an adapter's matrices for {part.module} are {pair[0].shape} and"
                    f" {pair[1].shape}; its base has {site.width} inputs and {part.width} outputs"
                )
            if not all((np.abs(matrix) <= LARGEST).all() for matrix in pair):  # false for NaN
                raise BundleInvalid(
                    f"an adapter's matrices for {part.module} hold what is no number, or one"
                    f" beyond {LARGEST:g}"
                )
            a[row : row + own] = pair[0]
            b[row : row + own, column : column + part.width] = pair[1]
            row += own
        column += part.width
    return _Block(a, b)


class AdapterStack:
    """All adapters that are loaded on a base, in one pair of matrices a site. Never changed."""

    def __init__(self, sites: tuple[Site, ...], adapters: Iterable[LoadedAdapter]) -> None:
        self.sites = sites
        given = tuple(adapters)
        self._places = {adapter.key: place for place, adapter in enumerate(given)}
        self._borders = _find_borders(sites, given)
        self._matrices = {site.name: self._join(site, given) for site in sites}
        self.adapters = tuple(self._view(adapter) for adapter in given)
        """Their matrices are parts of the joint ones."""

    def adapter(self, key: str) -> LoadedAdapter:
        """One of them."""
        return self.adapters[self._places[key]]

    def with_(self, adapter: LoadedAdapter) -> AdapterStack:
        """A stack that has `adapter`, too."""
        return AdapterStack(self.sites, (*self.adapters, adapter))

    def without(self, key: str) -> AdapterStack:
        """A stack that does not have it."""
        return AdapterStack(self.sites, [one for one in self.adapters if one.key != key])

    def window(self, keys: Iterable[str]) -> Window:
        """The smallest one that has all of `keys`: a view of the matrices, never a copy."""
        places = [self._places[key] for key in keys]
        return Window(min(places), max(places))

    def matrices(self, window: Window) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Graph inputs that stay the same for as long as the window does."""
        for site in self.sites:
            rows, block = self._rows(site.role, window), self._matrices[site.name]
            yield A_INPUT.format(site=site.name), block.a[rows]
            yield B_INPUT.format(site=site.name), block.b[rows]

    def masks(
        self, window: Window, owned: Many[Owned], *, by_row: bool = False
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Graph inputs that say which tokens of a run go where: float32 [1, tokens, R], or one
        token a row, [tokens, 1, R]."""
        made: dict[tuple[int, ...], NDArray[np.float32]] = {}
        for role, borders in self._borders.items():
            if borders not in made:
                mask = self._mask(borders, window, owned)
                made[borders] = mask[:, None] if by_row else mask[None]
            yield MASK_INPUT.format(role=role), made[borders]

    def _mask(
        self, borders: tuple[int, ...], window: Window, owned: Many[Owned]
    ) -> NDArray[np.float32]:
        first = borders[window.first]
        tokens = sum(one.tokens for one in owned)
        mask = np.zeros((tokens, borders[window.last + 1] - first), np.float32)
        begin = 0
        for one in owned:
            end = begin + one.tokens
            if one.adapter is not None:
                place = self._places[one.adapter]
                mask[begin:end, borders[place] - first : borders[place + 1] - first] = 1.0
            begin = end
        return mask

    def _rows(self, role: str, window: Window) -> slice:
        borders = self._borders[role]
        return slice(borders[window.first], borders[window.last + 1])

    def _join(self, site: Site, adapters: tuple[LoadedAdapter, ...]) -> _Block:
        borders = self._borders[site.role]
        a = np.zeros((borders[-1], site.width), np.float32)
        b = np.zeros((borders[-1], site.outputs), np.float32)
        for adapter, begin in zip(adapters, borders, strict=False):
            own = adapter.at(site)
            a[begin : begin + len(own.a)] = own.a
            b[begin : begin + len(own.b)] = own.b
        return _Block(a, b)

    def _view(self, adapter: LoadedAdapter) -> LoadedAdapter:
        blocks, place = {}, self._places[adapter.key]
        for site in self.sites:
            begin, rank = self._borders[site.role][place], len(adapter.at(site).a)
            joint = self._matrices[site.name]
            blocks[site.name] = _Block(joint.a[begin : begin + rank], joint.b[begin : begin + rank])
        return LoadedAdapter(adapter.key, blocks)


def _find_borders(
    sites: tuple[Site, ...], adapters: tuple[LoadedAdapter, ...]
) -> dict[str, tuple[int, ...]]:
    """Role -> where in the rank each adapter begins, and where the last one ends."""
    ranks: dict[str, list[int]] = {}
    for site in sites:
        own = [len(adapter.at(site).a) for adapter in adapters]
        before = ranks.get(site.role, [0] * len(own))
        ranks[site.role] = [max(pair) for pair in zip(before, own, strict=True)]
    return {role: tuple(accumulate(each, initial=0)) for role, each in ranks.items()}
