"""What the folder of a captioner says: its two models, how it reads pictures, how it writes.

transformers' VisionEncoderDecoderModel is known, of ViT or DeiT and GPT-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from exporters.errors import Refused
from exporters.model.activations import OPERATORS
from exporters.model.advice import defaults_of, left_aside
from exporters.model.conditioned import DecoderShape
from exporters.model.files import Json, is_count, shown
from exporters.model.pictures import read_steps
from exporters.model.source import Source, read_tokenizer
from nsedge.bundle.caption import Search
from nsedge.bundle.causal_lm import GenerationDefaults
from nsedge.bundle.pictures import CHANNELS, PictureSteps
from nsedge.bundle.vocabulary import tokens_without_row

ARCHITECTURE = "VisionEncoderDecoderModel"
MODEL_TYPE = "vision-encoder-decoder"
ENCODERS = {"vit": 1, "deit": 2}
"""By model_type, how many tokens of its own a picture has before its patches."""
DECODER = "gpt2"
VIT: Json = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": CHANNELS,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
}
GPT2: Json = {
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}
"""What the configurations mean where they are silent."""
HEAD_MULTIPLE = 16
USUAL_LENGTH = 20
"""transformers' max_length where nothing is said."""
FOLLOWED = frozenset({"do_sample", "num_beams"})
"""Advice that captioners follow, and models of text do not."""


@dataclass(frozen=True, kw_only=True)
class Eye:
    """Sizes of the encoder. own: tokens before the patches; side, patch: of a picture and its
    patches, in pixels."""

    hidden: int
    layers: int
    heads: int
    side: int
    patch: int
    own: int
    activation: str
    epsilon: float

    @property
    def frames(self) -> int:
        """Tokens of a picture."""
        return self.own + (self.side // self.patch) ** 2


@dataclass(frozen=True, kw_only=True)
class CaptionShape:
    """All that is to be known of a captioner beside its weights."""

    encoder: Eye
    decoder: DecoderShape
    decoder_activation: str
    decoder_epsilon: float
    steps: PictureSteps

    @property
    def projects(self) -> bool:
        """Whether what the encoder makes is brought to the decoder's width."""
        return self.encoder.hidden != self.decoder.width


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How captions begin, end and are sought where a request does not say."""

    start_id: int
    eos_ids: tuple[int, ...]
    pad_id: int | None
    max_length: int
    search: Search
    defaults: GenerationDefaults
    notes: tuple[str, ...]


def is_caption(source: Source) -> bool:
    """Whether the folder is to be exported as a captioner."""
    return source.config.get("model_type") == MODEL_TYPE


def read_caption_shape(source: Source) -> CaptionShape:
    """The sizes in a folder's files, before any weight is read.

    Raises:
        Refused: naming what cannot be exported.
        ExportError: a file is missing or damaged.
    """
    config, path = source.config, source.folder / "config.json"
    if source.architecture() != ARCHITECTURE:
        raise Refused(f"{source.architecture()} is no {ARCHITECTURE}; only that captions pictures")
    parts: dict[str, Json] = {}
    for side in ("encoder", "decoder"):
        stated = config.get(side)
        if not isinstance(stated, dict):
            raise Refused(f"{path}: {side} must be a configuration, not {shown(stated)}")
        parts[side] = stated
    if "quantization_config" in config:
        raise Refused(f"{source.folder}: the weights are quantised already; use the original ones")
    if not source.tokenizer_file.is_file():
        raise Refused(f"{source.folder}: no tokenizer.json; save the fast tokenizer there")
    source.parameters()
    eye = _eye(parts["encoder"], path)
    steps = read_steps(source.folder)
    if steps.size != (eye.side, eye.side):
        raise Refused(
            f"{source.folder}: pictures come out as {steps.size[0]} x {steps.size[1]}, and the"
            f" model reads {eye.side} x {eye.side}"
        )
    return _with_decoder(parts["decoder"], path, eye, steps)


def _eye(stated: Json, path: Path) -> Eye:
    kind = stated.get("model_type")
    if kind not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise Refused(f"{path}: the encoder {shown(kind)} has no form here; known are {known}")
    reading = _Reading(VIT | stated, path, "encoder")
    if (channels := reading.count("num_channels")) != CHANNELS:
        raise Refused(f"{path}: the encoder reads {channels} channels; pictures have {CHANNELS}")
    return Eye(
        hidden=reading.count("hidden_size"),
        layers=reading.count("num_hidden_layers"),
        heads=reading.heads("num_attention_heads", "hidden_size"),
        side=reading.count("image_size"),
        patch=reading.count("patch_size"),
        own=ENCODERS[str(kind)],
        activation=reading.activation("hidden_act"),
        epsilon=reading.number("layer_norm_eps"),
    )


def _with_decoder(stated: Json, path: Path, eye: Eye, steps: PictureSteps) -> CaptionShape:
    if (kind := stated.get("model_type")) != DECODER:
        raise Refused(f"{path}: the decoder {shown(kind)} has no form here; known is {DECODER}")
    reading = _Reading(GPT2 | stated, path, "decoder")
    for key, wanted in (
        ("add_cross_attention", True),
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("tie_word_embeddings", True),
        ("cross_attention_hidden_size", None),
    ):
        if (found := reading.stated.get(key)) != wanted:
            raise Refused(f"{path}: {key} of the decoder must be {wanted}, not {shown(found)}")
    heads, width = reading.heads("n_head", "n_embd"), reading.count("n_embd")
    if width % (heads * HEAD_MULTIPLE):
        raise Refused(f"{path}: {heads} heads of the decoder are not of a multiple of 16 numbers")
    decoder = DecoderShape(
        layers=reading.count("n_layer"),
        heads=heads,
        head_size=width // heads,
        positions=reading.count("n_positions"),
        vocabulary=reading.count("vocab_size"),
        frames=eye.frames,
    )
    return CaptionShape(
        encoder=eye,
        decoder=decoder,
        decoder_activation=reading.activation("activation_function"),
        decoder_epsilon=reading.number("layer_norm_epsilon"),
        steps=steps,
    )


class _Reading:
    """The configuration of one of the two models."""

    def __init__(self, stated: Json, path: Path, side: str) -> None:
        self.stated = stated
        self._where = f"{path}: {{}} of the {side}"

    def count(self, key: str) -> int:
        """A whole number above 0."""
        found = self.stated.get(key)
        if not is_count(found) or not found:
            where = self._where.format(key)
            raise Refused(f"{where} must be a whole number above 0, not {shown(found)}")
        return found

    def heads(self, key: str, width: str) -> int:
        """Heads, which share a width."""
        heads = self.count(key)
        if self.count(width) % heads:
            raise Refused(f"{self._where.format(width)} is not shared by {heads} heads")
        return heads

    def number(self, key: str) -> float:
        """A number above 0."""
        found = self.stated.get(key)
        if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
            where = self._where.format(key)
            raise Refused(f"{where} must be a number above 0, not {shown(found)}")
        return float(found)

    def activation(self, key: str) -> str:
        """The operator of an activation."""
        found = self.stated.get(key)
        if found not in OPERATORS:
            known = ", ".join(OPERATORS)
            where = self._where.format(key)
            raise Refused(f"{where}: {shown(found)} has no form here; known are {known}")
        return OPERATORS[str(found)]


def read_writing(source: Source, shape: CaptionShape) -> Writing:
    """How captions are written: generation_config.json, else config.json, else the decoder's part
    of it.

    Raises:
        Refused: a token is missing or has no row, or a value is out of bounds.
        ExportError: the tokenizer is damaged.
    """
    rows = shape.decoder.vocabulary
    if reason := tokens_without_row(read_tokenizer(source.tokenizer_file), rows):
        raise Refused(f"{source.folder}: {reason}")
    advice = _advice(source)
    tokens = _Tokens(source, advice, rows)
    ends = tokens.several("eos_token_id")
    if not ends:
        raise Refused(f"{source.folder}: no end-of-sequence token; set eos_token_id in config.json")
    start = tokens.one("decoder_start_token_id")
    start = tokens.one("bos_token_id") if start is None else start
    if start is None:
        raise Refused(f"{source.folder}: no decoder_start_token_id in config.json")
    defaults = defaults_of(advice, str(source.folder))
    if not advice.get("do_sample"):
        defaults = msgspec.structs.replace(defaults, temperature=0.0)
    others = {key: value for key, value in advice.items() if key not in FOLLOWED}
    aside = left_aside(others)
    return Writing(
        start_id=start,
        eos_ids=ends,
        pad_id=tokens.one("pad_token_id"),
        max_length=_max_length(source, advice, shape),
        search=_search(source, advice),
        defaults=defaults,
        notes=(f"not followed here: the makers' advice {', '.join(aside)}",) if aside else (),
    )


def _advice(source: Source) -> Json:
    decoder = source.config.get("decoder")
    found: Json = {}
    for stated in (decoder if isinstance(decoder, dict) else {}, source.config, source.generation):
        found |= {key: value for key, value in stated.items() if value is not None}
    return found


def _max_length(source: Source, advice: Json, shape: CaptionShape) -> int:
    new = advice.get("max_new_tokens")
    length = advice.get("max_length", USUAL_LENGTH) if new is None else new
    if not is_count(length) or not length:
        raise Refused(f"{source.folder}: max_length must be tokens, not {shown(length)}")
    return min(shape.decoder.positions, length if new is None else length + 1)


def _search(source: Source, advice: Json) -> Search:
    beams, penalty = advice.get("num_beams", 1), advice.get("length_penalty", 1.0)
    early = advice.get("early_stopping", False)
    if not is_count(beams) or not beams:
        raise Refused(f"{source.folder}: num_beams must be a number of beams, not {shown(beams)}")
    if isinstance(penalty, bool) or not isinstance(penalty, int | float):
        raise Refused(f"{source.folder}: length_penalty must be a number, not {shown(penalty)}")
    if not isinstance(early, bool):
        raise Refused(f"{source.folder}: early_stopping must be true or false, not {shown(early)}")
    return Search(beams=beams, length_penalty=float(penalty), early_stopping=early)


class _Tokens:
    def __init__(self, source: Source, advice: Json, rows: int) -> None:
        self._source, self._advice, self._rows = source, advice, rows

    def one(self, key: str) -> int | None:
        """A token; None where there is none."""
        found = self._advice.get(key)
        if isinstance(found, list):
            found = found[0] if found else None
        return None if found is None else self._checked(key, found)

    def several(self, key: str) -> tuple[int, ...]:
        """One token or several."""
        found = self._advice.get(key, [])
        return tuple(
            self._checked(key, one) for one in (found if isinstance(found, list) else [found])
        )

    def _checked(self, key: str, number: Any) -> int:
        if not is_count(number) or number >= self._rows:
            raise Refused(
                f"{self._source.folder}: {key} must be a token's id below {self._rows}, not"
                f" {shown(number)}"
            )
        return int(number)
