"""A captioner's golden pictures, asked of a daemon by the road that every request takes."""

from __future__ import annotations

from exporters.deploy.trial_speech import in_common
from nsedge.api import ModelInfo, Priority, Sampling
from nsedge.bundle.caption import Caption, GoldenCaption
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import Client, Delta
from nsedge.runtime.hosting.golden import Agreement
from nsedge.runtime.hosting.golden_captions import judge
from nsedge.runtime.vision.levels import frame_of, pattern

PATIENCE_S = 300.0
"""What the daemon may take for a picture, busy as it may be."""


def try_out_captions(client: Client, bundle: Bundle[Caption], info: ModelInfo) -> Agreement:
    """Have the daemon's model, which `info` tells of, caption the golden patterns of `bundle`. Each
    token counts where it stands in the order of the recorded ones.

    Raises:
        BundleInvalid: too few tokens agree.
        NsedgeError: a picture was not answered.
    """
    manifest = bundle.manifest
    variants = manifest.components.decoder.variants
    variant = next(one for one in variants if one.name == info.variant)
    total = agreed = 0
    for sample in bundle.golden("caption", GoldenCaption):
        ends = manifest.eos_token_ids
        wanted = [token for token in sample.continuation_ids if token not in ends]
        seen = client.caption(
            info.name,
            frame_of(pattern(sample.pattern, *manifest.processors.pictures.size)),
            sampling=Sampling(temperature=0.0, max_tokens=len(sample.continuation_ids)),
            priority=Priority.INTERACTIVE,
            deadline_s=PATIENCE_S,
        ).collected()
        deltas = (event for event in seen.results if isinstance(event, Delta))
        found = [token for event in deltas for token in event.token_ids if token not in ends]
        total += len(wanted)
        agreed += in_common(wanted, found)
    result = Agreement(tokens=total, agreed=agreed)
    judge(result, variant)
    return result
