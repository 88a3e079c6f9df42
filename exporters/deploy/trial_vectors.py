"""Golden samples of a model that makes vectors, asked of a daemon by the road that every request
takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Media, ModelInfo, Priority
from nsedge.bundle.dual_encoder import GOLDEN_PICTURES, DualEncoder, GoldenPicture
from nsedge.bundle.encoder import Encoder, GoldenVector, VectorVariant
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import Client
from nsedge.runtime.hosting.golden_vectors import Nearness, judge
from nsedge.runtime.vision.levels import frame_of, pattern

PATIENCE_S = 300.0
"""What the daemon may take, busy as it may be."""


def try_out_vectors(client: Client, bundle: Bundle[Encoder], info: ModelInfo) -> Nearness:
    """Have the daemon's model, which `info` tells of, make vectors of the golden texts of `bundle`.

    Raises:
        BundleInvalid: a vector is too far from that of fp32.
        NsedgeError: the request was not answered.
    """
    variant = next(one for one in bundle.manifest.variants if one.name == info.variant)
    return _texts(client, bundle, info.name, variant)


def try_out_towers(client: Client, bundle: Bundle[DualEncoder], info: ModelInfo) -> Nearness:
    """The same of golden texts and pictures; raises as `try_out_vectors` does."""
    towers = bundle.manifest.components
    text = next(one for one in towers.text.variants if one.name == info.variant)
    told = _texts(client, bundle, info.name, text)
    golden = bundle.golden(GOLDEN_PICTURES, GoldenPicture)
    size = bundle.manifest.processors.pictures.size
    frames = [frame_of(pattern(sample.pattern, *size)) for sample in golden]
    seen = judge(
        _vectors(client, info.name, frames),
        [sample.vector for sample in golden],
        variant=bundle.manifest.image_tower(text.name),
        name=bundle.name,
        what="pictures",
    )
    return Nearness(
        texts=told.texts + seen.texts, least_cosine=min(told.least_cosine, seen.least_cosine)
    )


def _texts(
    client: Client, bundle: Bundle[Encoder] | Bundle[DualEncoder], name: str, variant: VectorVariant
) -> Nearness:
    golden = bundle.golden("embed", GoldenVector)
    found = _vectors(client, name, [sample.text for sample in golden])
    wanted = [sample.vector for sample in golden]
    return judge(found, wanted, variant=variant, name=bundle.name)


def _vectors(client: Client, model: str, inputs: Sequence[str | Media]) -> NDArray[np.float32]:
    answer = client.embed(
        model, inputs, truncate=True, priority=Priority.INTERACTIVE, deadline_s=PATIENCE_S
    )
    return answer.embeddings().array
