"""Adapters that a model brings along, each for prompts that hold certain media: as an add-on's are
(nsedge.bundle.adapter), within the bundle of its base."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from msgspec import Meta

from nsedge.bundle.fields import Name, RelativePath, Strict
from nsedge.bundle.sites import Site


class ModeAdapters(Strict, frozen=True, kw_only=True):
    """The adapters of a model, of which a prompt goes through one at most.

    - image: the matrices for prompts with pictures, sounds beside them or not; a file as an
      add-on's.
    - audio: those for prompts with sound alone.
    - sites: the products that they add to.
    - graphs: by the name of each decoder, the graph with inputs for adapters that takes its place.
    """

    image: RelativePath | None = None
    audio: RelativePath | None = None
    sites: Annotated[tuple[Site, ...], Meta(min_length=1)]
    graphs: dict[Name, RelativePath]

    @property
    def matrices(self) -> dict[str, str]:
        """The files of matrices by the kind of media."""
        stated = {"image": self.image, "audio": self.audio}
        return {kind: name for kind, name in stated.items() if name is not None}

    def named_files(self) -> list[str]:
        """The files that have a use."""
        return [*self.matrices.values(), *self.graphs.values()]


def mode_of(kinds: Collection[str]) -> str | None:
    """Which adapter a prompt goes through that holds media of these kinds."""
    return next((mode for mode in ("image", "audio") if mode in kinds), None)
