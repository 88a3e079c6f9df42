"""What is looked at before a bundle's bytes reach the engine: its signature, then its hashes.

The manifest is what a signature signs, and it names the hash of every other file. Whoever may write
to a bundle's folder while it is being loaded is trusted: see docs/security.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import ModuleType

from nsedge.bundle.manifest import AnyBundle, Bundle
from nsedge.errors import ConfigInvalid
from nsedge.runtime.hosting.reading import read_ahead


def open_signed(path: Path, signers: tuple[str, ...]) -> AnyBundle:
    """Open the bundle at `path`, which one of `signers` must have signed; none asks for none.

    Raises:
        BundleInvalid: a damaged bundle, no signature, or one that does not fit.
        ConfigInvalid: a signer that is no key, or the extra that checks signatures is missing.
    """
    check_signature(path, signers)
    return Bundle.open(path)


def check_signature(path: Path, signers: tuple[str, ...]) -> None:
    """Whether one of `signers` signed the manifest in the directory `path`; none asks for none.

    Raises:
        BundleInvalid: no signature, or one that does not fit.
        ConfigInvalid: a signer that is no key, or the extra that checks signatures is missing.
    """
    if signers:
        signatures().check(path, signers)


def signatures() -> ModuleType:
    """`nsedge.bundle.signature`, whose library comes with an extra only.

    Raises:
        ConfigInvalid: where that is not installed.
    """
    try:
        return importlib.import_module("nsedge.bundle.signature")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        extra = "pip install 'nsedge[signatures]'"
        raise ConfigInvalid(f"signatures need cryptography: {extra}") from error


class Hashes:
    """The SHA-256 of all that `graph` is run from; other variants' folders are not read.

    They are compared in two parts: what is parsed has to be right before it is opened, and the
    weights, which are numbers alone, before the first step. `told` hears the share that was read, 0
    to 1.
    """

    def __init__(
        self,
        bundle: AnyBundle,
        graph: str,
        told: Callable[[float], None] = lambda share: None,
        *,
        beside: tuple[str, ...] = (),
    ) -> None:
        """`beside` are further graphs that are run with it."""
        own = {PurePosixPath(each).parent for each in (graph, *beside)}
        others = {PurePosixPath(each.graph).parent for each in bundle.manifest.variants} - own
        named = frozenset(bundle.manifest.named_files())
        self._parsed: dict[Path, str] = {}
        self._weights: dict[Path, str] = {}
        parsed_bytes = weights_bytes = 0
        for name, entry in bundle.manifest.files.items():
            folder = PurePosixPath(name).parent
            if folder in own and name not in named:
                self._weights[bundle.file(name)] = entry.sha256
                weights_bytes += entry.bytes
            elif folder not in others:
                self._parsed[bundle.file(name)] = entry.sha256
                parsed_bytes += entry.bytes
        self._told = told
        self._first = parsed_bytes / (parsed_bytes + weights_bytes or 1)

    def check_parsed(self) -> None:
        """Compare those of the files that a parser reads: all that the manifest names a use of, and
        whatever lies outside the graph's folder.

        Raises:
            BundleInvalid: naming the file that was altered, or cannot be read.
        """
        read_ahead(self._parsed, lambda share: self._told(share * self._first))

    def check_weights(self) -> None:
        """Compare those of the files beside the graph; raises what `check_parsed` does."""
        rest = 1 - self._first
        read_ahead(self._weights, lambda share: self._told(min(1.0, self._first + share * rest)))


def verify(bundle: AnyBundle, graph: str) -> None:
    """Compare the SHA-256 of all that `graph` is run from.

    Raises:
        BundleInvalid: naming the file that was altered, or cannot be read.
    """
    hashes = Hashes(bundle, graph)
    hashes.check_parsed()
    hashes.check_weights()
