"""The products of a decoder's graph that adapters add to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.fields import Line, Positive, Strict


class Part(Strict, frozen=True, kw_only=True):
    """A module of the model, and how many of a site's outputs are its own."""

    module: Line
    width: Positive


class Site(Strict, frozen=True, kw_only=True):
    """A product in the graph that adapters add to: modules packed side by side.

    Sites of one role have their masks in common, since a role's modules differ by layer only.
    """

    name: Line
    role: Line
    width: Positive
    """Of the input."""
    parts: Annotated[tuple[Part, ...], Meta(min_length=1)]

    @property
    def outputs(self) -> int:
        """Width of the output."""
        return sum(part.width for part in self.parts)
