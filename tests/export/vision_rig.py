"""Questions about pictures, what transformers answers to them, and a daemon that is asked."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from exporters.__main__ import main
from nsedge.api import (
    Delta,
    Event,
    Finished,
    Media,
    MediaPart,
    Message,
    Role,
    Sampling,
    TextPart,
)
from nsedge.ipc.client import Client
from nsedge.runtime.settings import EngineSettings
from tests.export.tiny_dual_encoders import PATCH, PHOTOGRAPH, SIDE
from tests.export.tiny_vision_lms import (
    SCALE,
    image_processor,
    make_vision_lm,
    token_of,
)
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home

ROWS = (SIDE // PATCH) ** 2
TOKENS = 12
LOOSE = ("--threshold", "kl=9", "--threshold", "top1=0", "--threshold", "golden=0")
"""Random weights say nearly the same of every token."""


def photograph(box: tuple[int, int, int, int] = (0, 0, 512, 600)) -> Image.Image:
    with Image.open(PHOTOGRAPH) as whole:
        return whole.convert("RGB").crop(box)


PICTURES = [
    photograph(),
    photograph((100, 50, 400, 400)),
    Image.effect_mandelbrot((90, 60), (-2, -1.5, 1, 1.5), 60).convert("RGB"),
]


def media(image: Image.Image) -> Media:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Media(type="image/png", data=file.getvalue())


def said(*parts: str | Image.Image, role: Role = Role.USER) -> Message:
    content = tuple(
        TextPart(text=part) if isinstance(part, str) else MediaPart(media=media(part))
        for part in parts
    )
    return Message(role=role, content=content)


class ByTransformers:
    """The model and its processor, as transformers has them."""

    def __init__(self, folder: Path, family: str) -> None:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        self.tokenizer = tokenizer
        self.model = make_vision_lm(family, tokenizer.convert_tokens_to_ids(token_of(family)))
        parts = {
            "image_processor": image_processor("idefics3" if family == "smolvlm" else family),
            "tokenizer": tokenizer,
            "chat_template": (folder / "chat_template.jinja").read_text(),
        }
        if family.startswith("llava"):
            kind = "LlavaNextProcessor" if family == "llava_next" else "LlavaProcessor"
            self.processor = getattr(transformers, kind)(
                **parts,
                patch_size=PATCH,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
            )
        elif family.startswith("qwen"):
            self.processor = qwen_processor(family, **parts)
        else:  # SmolVLM's own wants a package for films, and writes the same of pictures
            self.processor = transformers.Idefics3Processor(**parts, image_seq_len=ROWS // SCALE**2)

    def answer(self, *turns: Message) -> list[int]:
        """The tokens of the greedy answer."""
        told = [
            {
                "role": str(turn.role),
                "content": [
                    {"type": "text", "text": part.text}
                    if isinstance(part, TextPart)
                    else {"type": "image"}
                    for part in turn.content
                ],
            }
            for turn in turns
        ]
        text = self.processor.apply_chat_template(told, add_generation_prompt=True)
        images = [Image.open(io.BytesIO(one.data)) for turn in turns for one in turn.media]
        read = self.processor(text=text, images=images or None, return_tensors="pt")
        read.pop("token_type_ids", None)
        with torch.no_grad():
            made = self.model.generate(
                **read, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
            )
        return made[0, read["input_ids"].shape[1] :].tolist()


def qwen_processor(family: str, **parts: Any) -> Any:
    """The family's own, without what reads films, which wants another package."""
    name = "Qwen2VL" if family == "qwen2_vl" else "Qwen2_5_VL"
    kind = getattr(transformers, f"{name}Processor")
    processor = object.__new__(kind)
    tokens = {f"{what}_token": f"<|{what}_pad|>" for what in ("image", "video")}
    ids = {
        f"{name}_id": parts["tokenizer"].convert_tokens_to_ids(token)
        for name, token in tokens.items()
    }
    vars(processor).update(parts | tokens | ids)
    return processor


QUESTIONS = [
    [said("What is this?", PICTURES[0])],
    [said(PICTURES[1], PICTURES[2], PICTURES[0], "Tell them apart.")],
    [said("No picture at all.")],
    [
        said(PICTURES[2], "Here?"),
        said("A ball.", role=Role.ASSISTANT),
        said("And here?", PICTURES[0]),
    ],
]


GREEDY = Sampling(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS)
ENGINE = EngineSettings(slots=4, context_tokens=512, threads=1)


def tokens_of(events: Iterable[Event]) -> list[int]:
    """The tokens of an answer, which ends well."""
    *told, end = events
    assert isinstance(end, Finished), end
    return [token for one in told if isinstance(one, Delta) for token in one.token_ids]


class Bundles(dict[str, Path]):
    """Of each family, with every form of the graph of two; made when it is first asked for."""

    def __init__(self, folders: dict[str, Path], root: Path) -> None:
        super().__init__()
        self._folders, self._root = folders, root

    def __missing__(self, family: str) -> Path:
        every = family in ("llava", "qwen2_5_vl")
        forms = "cpu-int8,cpu-fp32,cpu-int8-kv8" if every else "cpu-int8,cpu-fp32"
        out = self._root / family
        options = ("--name", "tiny", "--out", str(out), "--variants", forms, *LOOSE)
        assert main(["model", str(self._folders[family]), *options]) == 0
        self[family] = out
        return out


@contextmanager
def serving(bundle: Path, variant: str, **engine: Any) -> Iterator[tuple[Client, str]]:
    """A client of a daemon that serves a bundle as `tiny`, and where that is."""
    with short_directory() as place:
        home = Home(place, replace(ENGINE, variants={"tiny": variant}, **engine))
        home.store.mkdir()
        shutil.copytree(bundle, home.store / "tiny")
        with home.serving(), Client(home.endpoint) as client:
            yield client, home.endpoint
