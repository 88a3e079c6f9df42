"""Tiny models that see, with random weights, as transformers lays them out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from tests.export import tiny
from tests.export.tiny_dual_encoders import IMAGE, PATCH, SIDE

TOKEN = "<image>"
SIZES = tiny.SIZES | {"max_position_embeddings": 512}
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""As LLaVA 1.5's: pictures first, and content in parts alone."""


def _llava(token_id: int) -> Any:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**IMAGE | {"num_hidden_layers": 3}),
        text_config=transformers.LlamaConfig(**SIZES),
        image_token_id=token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    return transformers.LlavaForConditionalGeneration(config)


RESOLUTIONS = [[32, 64], [64, 32], [64, 64], [96, 32]]


def _llava_next(token_id: int) -> Any:
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**IMAGE | {"num_hidden_layers": 3}),
        text_config=transformers.MistralConfig(**SIZES, sliding_window=None),
        image_token_index=token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_grid_pinpoints=RESOLUTIONS,
    )
    return transformers.LlavaNextForConditionalGeneration(config)


TILE, SCALE = 32, 2
SMALL_TEMPLATE = (
    "<s>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""As SmolVLM's."""


def _tiled(name: str) -> Callable[[int], Any]:
    def make(token_id: int) -> Any:
        kind = getattr(transformers, f"{name}Config")
        config = kind(
            vision_config={**IMAGE, "num_hidden_layers": 2, "image_size": TILE},
            text_config={**SIZES, "model_type": "llama"},
            image_token_id=token_id,
            scale_factor=SCALE,
            tie_word_embeddings=False,
        )
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)

    return make


QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content"
    " or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen2.5-VL's, but for films."""
UNIT, PATCH_SIDE = 16, 8


def _qwen(name: str, **vision: Any) -> Callable[[int], Any]:
    def make(token_id: int) -> Any:
        config = getattr(transformers, f"{name}Config")(
            vision_config={
                "depth": 3,
                "num_heads": 5,
                "patch_size": PATCH_SIDE,
                "spatial_merge_size": UNIT // PATCH_SIDE,
                "temporal_patch_size": 2,
                **vision,
            },
            text_config={
                **SIZES,
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
                "rope_theta": 100.0,
            },
            vision_start_token_id=token_id - 2,
            vision_end_token_id=token_id - 1,
            image_token_id=token_id,
            video_token_id=token_id + 1,
        )
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)

    return make


FAMILIES: dict[str, Callable[[int], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "idefics3": _tiled("Idefics3"),
    "smolvlm": _tiled("SmolVLM"),
    "qwen2_vl": _qwen("Qwen2VL", embed_dim=80, hidden_size=64, mlp_ratio=2),
    "qwen2_5_vl": _qwen(
        "Qwen2_5_VL",
        hidden_size=80,
        intermediate_size=112,
        out_hidden_size=64,
        window_size=2 * UNIT,
        fullatt_block_indexes=[1],
    ),
}


def token_of(family: str) -> str:
    """What stands for a row of a picture."""
    return QWEN_TOKENS[2] if family.startswith("qwen") else TOKEN


def marker_of(family: str) -> str:
    """What the template writes for a picture."""
    return "".join(QWEN_TOKENS[i] for i in (0, 2, 1)) if family.startswith("qwen") else TOKEN


def make_vision_lm(family: str, token_id: int) -> Any:
    """A model of the family, its weights and biases random enough to show every mistake."""
    torch.manual_seed(0)
    model = FAMILIES[family](token_id).eval()
    for name, parameter in model.named_parameters():
        told = 0.4 if "language_model" in name or "text_model" in name else 0.15
        torch.nn.init.normal_(parameter, 0.0, told if parameter.ndim > 1 else 0.3)
    model.set_attn_implementation("eager")
    return model


def write_vision_folder(folder: Path, family: str = "llava") -> Path:
    """The model, a byte-level tokenizer with its token for pictures, a processor's settings."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = {"llava": LLAVA_TEMPLATE, "qwen": QWEN_TEMPLATE}
    written_as = next((t for name, t in templates.items() if family.startswith(name)), None)
    token_id = write_tokenizer(folder, written_as or SMALL_TEMPLATE, token=token_of(family))
    make_vision_lm(family, token_id).save_pretrained(folder)
    image_processor(family).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def image_processor(family: str) -> Any:
    """What prepares pictures."""
    if family == "llava":
        return transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        )
    if family == "llava_next":
        return transformers.LlavaNextImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=RESOLUTIONS,
        )
    if family.startswith("qwen"):
        return transformers.Qwen2VLImageProcessor(
            patch_size=PATCH_SIDE,
            merge_size=UNIT // PATCH_SIDE,
            min_pixels=4 * UNIT**2,
            max_pixels=40 * UNIT**2,
        )
    kind = "Idefics3" if family == "idefics3" else "SmolVLM"
    made = getattr(transformers, f"{kind}ImageProcessor")
    return made(size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE})


def write_tokenizer(folder: Path, template: str = LLAVA_TEMPLATE, *, token: str = TOKEN) -> int:
    """The tokenizer of `tiny`, with tokens for pictures; the id of `token`, a row's."""
    tiny.write_tokenizer(folder)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    added = [TOKEN, "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", *QWEN_TOKENS]
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in added])
    tokenizer.save(str(path))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(template)
    return int(tokenizer.token_to_id(token))
