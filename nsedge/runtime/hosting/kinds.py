"""The kinds of models there are: from a package on disk to a hosted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsedge.bundle.adapter import Adapter, open_package
from nsedge.bundle.caption import Caption
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.diffusion import Diffusion
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.headed import HeadedEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import Speech
from nsedge.bundle.vision_lm import VisionLm
from nsedge.errors import BundleInvalid
from nsedge.runtime.hosting import (
    adapter,
    caption,
    conditioned,
    diffusion,
    diffusion_graphs,
    dual_encoder,
    encoder,
    encoding,
    headed,
    speech,
    text,
    trust,
    vision_lm,
)
from nsedge.runtime.hosting.hosted import Host, HostedModel, Opening
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.settings import EngineSettings


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How bundles with one type of manifest are hosted.

    open: brings a bundle into memory. expected: what one can be expected to claim there.
    """

    open: Callable[[Bundle[Any], Host, Opening], HostedModel]
    expected: Callable[[Bundle[Any], EngineSettings], Amount]


KINDS: dict[type, Kind] = {
    CausalLm: Kind(open=text.open_text, expected=text.expected),
    VisionLm: Kind(open=vision_lm.open_vision, expected=vision_lm.expected),
    Encoder: Kind(open=encoder.open_encoder, expected=encoding.expected),
    HeadedEncoder: Kind(open=headed.open_headed, expected=encoding.expected),
    DualEncoder: Kind(open=dual_encoder.open_dual_encoder, expected=encoding.expected),
    Diffusion: Kind(open=diffusion.open_diffusion, expected=diffusion_graphs.expected),
    Caption: Kind(open=caption.open_caption, expected=conditioned.expected),
    Speech: Kind(open=speech.open_speech, expected=conditioned.expected),
}
"""By the type of the manifest."""


def open_model(path: Path, host: Host, opening: Opening) -> HostedModel:
    """Bring the bundle at `path` into memory, or the adapter, whose base is there.

    Raises:
        BundleInvalid: where it is damaged, altered, not signed as it must be, or does not fit.
        DeviceUnavailable: where none of a bundle's variants runs on the wanted device.
        InsufficientMemory: where there is no room for it.
    """
    trust.check_signature(path, host.settings.signers)
    package = open_package(path)
    if not isinstance(package, Adapter):
        return KINDS[type(package.manifest)].open(package, host, opening)
    if not isinstance(opening.base, text.TextModel):
        raise BundleInvalid(f"{package.name} is an adapter, and its base is not a text model")
    return adapter.AdapterModel(package=package, base=opening.base, opening=opening)


def expected(path: Path, settings: EngineSettings) -> Amount:
    """What the package at `path` can be expected to claim of memory, before it was ever loaded.

    Raises:
        BundleInvalid: where it is damaged.
        DeviceUnavailable: where none of a bundle's variants runs on the wanted device.
    """
    package = open_package(path)
    if isinstance(package, Adapter):
        return adapter.expected(package)
    return KINDS[type(package.manifest)].expected(package, settings)
