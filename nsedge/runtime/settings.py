"""What an engine can be told, as values; the configuration maps onto this."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from nsedge.api import ToolFormat


class Device(enum.StrEnum):
    """Where models run. AUTO takes the first variant of a bundle that this machine can run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class PrefixReuse(enum.StrEnum):
    """What a prompt may go on from, of the KV that earlier requests left in the slots."""

    OFF = "off"
    EXACT = "exact"
    """What gives the same text as without: prompts, and output where it is computed alike."""
    FULL = "full"
    """Output always, though its KV may be rounded another way than that of prompts: the text may
    differ where two tokens are nearly as likely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The bounds of one model's engine."""

    slots: int = 16
    """Sequences that hold KV memory at once, be their prompts read or their output written."""
    context_tokens: int = 4096
    """Prompt and output of one request; the bundle's own context length where that is less."""
    prefill_chunk_tokens: int = 128
    """Prompt tokens read at once; fewer while other sequences decode."""
    prefix_reuse: PrefixReuse = PrefixReuse.EXACT
    step_stretch: float = 2.0
    """How often its quiet time 99 of 100 tokens of a running stream may take while prompts are
    read."""
    burst_s: float = 4.0
    """Seconds for which prompts that come together, to an engine at rest, take most of the time."""
    max_queue: int = 16384
    """Requests that may wait for a slot."""
    embed_batch_tokens: int = 4096
    """Tokens that an encoder runs at once, padding among them; a picture counts as its patches."""
    max_picture_pixels: int = 64_000_000
    """Of one picture, as it comes and as it is resized."""
    max_video_frames: int = 64
    """Of one film that are looked at."""
    max_video_s: float = 3600.0
    """The length of one film."""
    video_decode_s: float = 60.0
    """For decoding one film."""
    max_image_pixels: int = 0
    """Of a picture that is made; 0 is as many as the model's own size has."""
    max_image_steps: int = 150
    """Of denoising a picture."""
    image_batch: int = 4
    """Rows of the model's own size that one run of the denoiser takes; a picture with guidance is
    two."""
    picture_cache_bytes: int = 256 << 20
    """For what each model that sees made of pictures before."""
    threads: int = 0
    """Threads of a matrix product; 0 follows the cores that affinity, quota and others leave."""
    device: Device = Device.AUTO
    variants: Mapping[str, str] = field(default_factory=dict)
    """Models, by name, that run in a variant which is not the first that can run here."""
    tool_formats: Mapping[str, ToolFormat] = field(default_factory=dict)
    """Models, by name, whose template does not tell how they write calls."""
    signers: tuple[str, ...] = ()
    """Public keys, of minisign's, of which one must have signed the bundle; none asks for none."""
