"""An encoder's golden texts, asked of a daemon by the road that every request takes."""

from __future__ import annotations

from nsedge.api import ModelInfo, Priority
from nsedge.bundle.encoder import Encoder, GoldenVector
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import Client
from nsedge.runtime.hosting.golden_vectors import Nearness, judge

PATIENCE_S = 300.0
"""What the daemon may take, busy as it may be."""


def try_out_vectors(client: Client, bundle: Bundle[Encoder], info: ModelInfo) -> Nearness:
    """Have the daemon's model, which `info` tells of, make vectors of the golden texts of `bundle`.

    Raises:
        BundleInvalid: a vector is too far from that of fp32.
        NsedgeError: the request was not answered.
    """
    variant = next(one for one in bundle.manifest.variants if one.name == info.variant)
    golden = bundle.golden("embed", GoldenVector)
    answer = client.embed(
        info.name,
        [sample.text for sample in golden],
        truncate=True,
        priority=Priority.INTERACTIVE,
        deadline_s=PATIENCE_S,
    )
    return judge(answer.embeddings().array, golden, variant=variant, name=bundle.name)
