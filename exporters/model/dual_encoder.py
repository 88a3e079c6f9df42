"""What the folder of a dual encoder says: its family, its towers, how it reads texts and pictures.

CLIP and SigLIP are known. Their layers are alike, a norm before attention and before the product
with an activation; what differs stands in `Family`.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporters.errors import Refused
from exporters.model.activations import OPERATORS
from exporters.model.files import Json, is_count, shown
from exporters.model.pictures import read_steps
from exporters.model.source import Source, read_tokenizer
from nsedge.bundle.pictures import PictureSteps

HIGHEST_ID = 2
"""An eos_token_id that stands for the highest of a text's ids, in the configurations of CLIP's
makers."""
COMMON: Json = {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a model_type's folder need not say, and how its towers pool.

    - text, image: what the configuration means where it is silent.
    - width: the key of a vector's width; `None` is the image tower's own.
    - is_causal: a token of a text attends to those before it, and the end token's state is the
      text's; else all attend to all, texts are padded, and the last place's state is.
    - has_class: a picture has a token of its own, whose state is the picture's; else a head attends
      to all patches.
    - function: how cosines become likelihoods.
    """

    architecture: str
    text: Json
    image: Json
    width: str | None
    is_causal: bool
    has_class: bool
    function: str


FAMILIES = {
    "clip": Family(
        architecture="CLIPModel",
        text=COMMON
        | {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "max_position_embeddings": 77,
            "vocab_size": 49408,
            "eos_token_id": 49407,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        image=COMMON
        | {
            "hidden_size": 768,
            "image_size": 224,
            "patch_size": 32,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        width="projection_dim",
        is_causal=True,
        has_class=True,
        function="softmax",
    ),
    "siglip": Family(
        architecture="SiglipModel",
        text=COMMON
        | {
            "hidden_size": 768,
            "max_position_embeddings": 64,
            "vocab_size": 32000,
            "eos_token_id": 49407,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        image=COMMON
        | {
            "hidden_size": 768,
            "image_size": 224,
            "patch_size": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        width=None,
        is_causal=False,
        has_class=False,
        function="sigmoid",
    ),
}
"""By model_type."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """Sizes of one tower."""

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class DualShape:
    """All that is to be known of a dual encoder beside its weights.

    end_id: the token whose state is a text's, where the last place's is not; None is the highest of
    the ids. side, patch: of a picture and its patches, in pixels.
    """

    family: Family
    text: Tower
    image: Tower
    vocabulary: int
    context_length: int
    pad_id: int
    end_id: int | None
    side: int
    patch: int
    dimensions: int
    steps: PictureSteps

    @property
    def patches(self) -> int:
        """Rows that a picture becomes."""
        return (self.side // self.patch) ** 2 + self.family.has_class


def is_dual_encoder(source: Source) -> bool:
    """Whether the folder is to be exported as one."""
    family = FAMILIES.get(str(source.config.get("model_type")))
    return family is not None and source.architecture() == family.architecture


def read_dual_shape(source: Source, *, max_context: int | None = None) -> DualShape:
    """All that is to be known of the dual encoder in a folder, before any weight is read.

    `max_context` bounds the tokens of a text, where texts are not padded.

    Raises:
        Refused: naming what cannot be exported.
        ExportError: a file is missing or damaged.
    """
    config = source.config
    family = FAMILIES[str(config["model_type"])]
    text = _part(source, "text_config", family.text)
    image = _part(source, "vision_config", family.image)
    if "quantization_config" in config:
        raise Refused(f"{source.folder}: the weights are quantised already; use the original ones")
    if not source.tokenizer_file.is_file():
        raise Refused(f"{source.folder}: no tokenizer.json; save the fast tokenizer there")
    if image.get("num_channels", 3) != 3 or image.get("vision_use_head") is False:
        raise Refused(f"{source.folder}: pictures of other than 3 channels, or no head: no form")
    source.parameters()
    side, patch = _count(source, image, "image_size"), _count(source, image, "patch_size")
    steps = read_steps(source.folder)
    if steps.size != (side, side) or side < patch:
        raise Refused(
            f"{source.folder}: pictures are prepared as {steps.size[0]} x {steps.size[1]}, and the"
            f" model takes {side} x {side} in patches of {patch}"
        )
    context = _count(source, text, "max_position_embeddings")
    if max_context is not None and family.is_causal:
        context = min(context, max_context)
    hidden = image["hidden_size"]
    width = config.get(family.width, 512) if family.width else text.get("projection_size", hidden)
    if not is_count(width) or not width or (family.width is None and width != hidden):
        raise Refused(f"{source.folder}: vectors of {shown(width)} numbers have no form here")
    return DualShape(
        family=family,
        text=_tower(source, text),
        image=_tower(source, image),
        vocabulary=_count(source, text, "vocab_size"),
        context_length=context,
        pad_id=_pad_id(source, text),
        end_id=_end_id(source, text) if family.is_causal else None,
        side=side,
        patch=patch,
        dimensions=width,
        steps=steps,
    )


def _part(source: Source, name: str, defaults: Json) -> Json:
    stated = source.config.get(name) or {}
    if not isinstance(stated, dict):
        raise Refused(f"{source.folder / 'config.json'}: {name} is no object: {shown(stated)}")
    return defaults | {key: value for key, value in stated.items() if value is not None}


def _tower(source: Source, part: Json) -> Tower:
    layers, heads, hidden = (
        _count(source, part, key)
        for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    if hidden % heads:
        raise Refused(f"{heads} heads do not divide {hidden} numbers")
    activation, epsilon = part["hidden_act"], part["layer_norm_eps"]
    if activation not in OPERATORS:
        known = ", ".join(OPERATORS)
        raise Refused(f"the activation {shown(activation)} has no form here; known are {known}")
    if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
        raise Refused(f"layer_norm_eps must be from 0 to 1, not {shown(epsilon)}")
    return Tower(
        layers=layers, heads=heads, hidden=hidden, activation=activation, epsilon=float(epsilon)
    )


def _count(source: Source, part: Json, key: str) -> int:
    number = part.get(key)
    if not is_count(number) or not number:
        path = source.folder / "config.json"
        raise Refused(f"{path}: {key} must be a whole number above 0, not {shown(number)}")
    return int(number)


def _end_id(source: Source, text: Json) -> int | None:
    end = text["eos_token_id"]
    if not is_count(end) or end >= text["vocab_size"]:
        raise Refused(f"{source.folder}: the end token {shown(end)} is none of the model's")
    return None if end == HIGHEST_ID else int(end)


def _pad_id(source: Source, text: Json) -> int:
    """The tokenizer's own padding token, else the configuration's."""
    token = source.tokenizer_config.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    own = read_tokenizer(source.tokenizer_file).token_to_id(name) if name else None
    pad = own if own is not None else text.get("pad_token_id", 0)
    if not is_count(pad) or pad >= text["vocab_size"]:
        raise Refused(f"{source.folder}: the padding token {shown(pad)} is none of the model's")
    return int(pad)
