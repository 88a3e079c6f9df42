"""A speech model's golden recordings, asked of a daemon by the road that every request takes.

A token counts as agreed where it stands in the transcript in the order of the recorded ones: what
follows another token is another text, which may come back to the recorded one.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from nsedge.api import Media, ModelInfo, Priority
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import GoldenSpeech, Speech
from nsedge.ipc.client import Client
from nsedge.runtime.hosting.golden import Agreement
from nsedge.runtime.hosting.golden_speech import judge

PATIENCE_S = 300.0
"""What the daemon may take for a recording, busy as it may be."""


def try_out_speech(client: Client, bundle: Bundle[Speech], info: ModelInfo) -> Agreement:
    """Have the daemon's model, which `info` tells of, write the golden recordings of `bundle`.

    Raises:
        BundleInvalid: too few tokens agree.
        NsedgeError: a recording was not answered.
    """
    manifest = bundle.manifest
    variants = manifest.components.decoder.variants
    variant = next(one for one in variants if one.name == info.variant)
    total = agreed = 0
    for sample in bundle.golden("transcribe", GoldenSpeech):
        wanted = [token for token in sample.continuation_ids if token != manifest.tokens.end]
        said = client.transcribe(
            info.name,
            Media(type="audio/wav", data=bundle.file(sample.audio).read_bytes()),
            language="en",
            temperatures=(0.0,),
            vad=False,
            priority=Priority.INTERACTIVE,
            deadline_s=PATIENCE_S,
        ).transcript()
        found = [token for segment in said.segments for token in segment.tokens]
        total += len(wanted)
        agreed += in_common(wanted, found)
    result = Agreement(tokens=total, agreed=agreed)
    judge(result, variant)
    return result


def in_common(wanted: Sequence[int], found: Sequence[int]) -> int:
    """Tokens that both have, in one order."""
    blocks = SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)
