"""How a model that writes text hears sound itself, as data of its manifest: an encoder whose rows
stand in the place of tokens, and the features that it takes."""

from __future__ import annotations

import msgspec

from nsedge.bundle.causal_lm import Fidelity
from nsedge.bundle.encoder import VectorVariant
from nsedge.bundle.fields import Count, Line, Name, Positive, RelativePath, Strict, Variants

GOLDEN_SOUNDS = "hear"
"""The golden samples that are sounds."""


class SoundEncoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs.

    - features: float32 [1, T, bins], any T.
    - kept: int64 [n], which of the ceil(T / stride) frames that come of them go on, by number; the
      number behind the last is a frame of zeros.
    - alone, beside: float32 [1, n, hidden], for prompts without pictures and with some.
    """

    features: Line = "features"
    kept: Line = "kept"
    alone: Line = "alone"
    beside: Line = "beside"


class SoundEncoder(VectorVariant, frozen=True, kw_only=True):
    """A graph that makes rows of sound, in the directory of the decoder that it belongs to.

    - fidelity: how near its rows are to fp32's.
    - seen: by the name of each decoder beside it, how near both together are to fp32, over what
      follows sounds.
    """

    io: SoundEncoderIo
    seen: dict[Name, Fidelity] = msgspec.field(default_factory=dict)


class SoundFeatures(Strict, frozen=True, kw_only=True):
    """How sound becomes features: the log of mel energies of spans of samples.

    - filters: a file of float32, little-endian, [fft_size // 2 + 1, bins].
    - window, hop: samples of a span, and from one to the next. preemphasis: of each span.
    - stride: frames of features that become one row.
    - chunk_rows: rows that are encoded together. Longer sound is cut into chunks of so many, the
      last of which is filled up with frames of zeros.
    - most_s: of one recording.
    """

    filters: RelativePath
    bins: Positive
    sampling_rate: Positive = 16000
    fft_size: Positive = 512
    window: Positive = 400
    hop: Positive = 160
    preemphasis: float = 0.97
    stride: Positive = 8
    chunk_rows: Positive = 500
    most_s: Positive = 1800


class SoundPrompt(Strict, frozen=True, kw_only=True):
    """How sound stands in a prompt; as `PicturePrompt`."""

    marker: Line
    token: Line
    token_id: Count


class Hearing(Strict, frozen=True, kw_only=True):
    """All that a model needs to hear."""

    encoder: Variants[SoundEncoder]
    features: SoundFeatures
    prompt: SoundPrompt
