"""What every manifest is made of: strict structs, names, files, and where weights came from."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from nsedge.printable import PRINTABLE

# A pattern ends with \Z: $ would let a line end through.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}\Z")]
RelativePath = Annotated[str, Meta(pattern=r"^(?!/)(?!.*(^|/)\.\.(/|\Z))[A-Za-z0-9._/-]{1,255}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Line = Annotated[str, Meta(pattern=PRINTABLE)]
"""Text that is printed, in a list of models, a report or the log: no control character."""
Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
V = TypeVar("V", bound="AnyVariant")
FORMAT = "nsedge-bundle"
FORMAT_VERSION = 2


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields are exact: an unknown one is refused by name."""


class FileEntry(Strict, frozen=True, kw_only=True):
    """A file of the bundle, as it was packaged."""

    sha256: Sha256
    bytes: Count


class Tokenizer(Strict, frozen=True, kw_only=True):
    """The tokenizer's file and the special tokens that the template and the text prompt need."""

    file: RelativePath
    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None
    pad_token: str | None = None
    add_bos: bool = False
    """Whether a text prompt begins with bos_token; a chat template writes its own."""


class Provenance(Strict, frozen=True, kw_only=True):
    """Where the weights came from and who may use them."""

    source: Line
    revision: Line | None = None
    architecture: Line
    parameters: Positive
    licence: Line
    created: Line
    """ISO 8601, UTC."""
    exporter: dict[Line, Line]
    """Package -> version."""
    thresholds: dict[Line, float] = {}
    """Limits of the build that were asked for in the place of the usual ones; mostly none."""


class AnyVariant(Strict, frozen=True, kw_only=True):
    """The graph for one device and precision. It runs where all that it `requires` is there."""

    name: Name
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda)\Z")]
    scheme: Line
    graph: RelativePath
    requires: tuple[Line, ...] = ()


class Variants(Strict, Generic[V], frozen=True, kw_only=True):
    """A component: a graph with a name, in the variants there are of it, the preferred first."""

    variants: Annotated[tuple[V, ...], Meta(min_length=1)]


class Common(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """The fields of every kind of manifest. `golden`: task -> what the fp32 model said.

    A kind adds `components` (its graphs), `processors` (what reads inputs, as data) and whatever
    else is to be known of it.
    """

    format: Annotated[str, Meta(pattern=rf"^{FORMAT}\Z")]
    format_version: int
    name: Name
    golden: dict[Line, RelativePath]
    provenance: Provenance
    files: dict[RelativePath, FileEntry]

    @property
    def kind(self) -> str:
        """The kind of model."""
        return str(self.__struct_config__.tag)

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """Of all its components; none where a kind has no graphs."""
        return ()

    @property
    def has_chat_template(self) -> bool:
        """Whether it can be asked with messages."""
        return False

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """What its messages may hold beside text: kinds of media types, `image` for one."""
        return ()

    def named_files(self) -> list[str]:
        """The files that have a use: golden samples and graphs; a kind adds its own."""
        return [*self.golden.values(), *(variant.graph for variant in self.variants)]
