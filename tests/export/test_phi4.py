"""Phi-4-multimodal: what a daemon answers about pictures and sound, through the adapters that these
ask for, is what transformers answers, alone and beside others."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from PIL import Image
from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import (
    Phi4MultimodalFeatureExtractor,
)

from exporters.__main__ import main
from exporters.errors import Refused
from exporters.model.phi4 import PhiSource
from nsedge.api import Chat, Media, MediaPart, Message, PromptQuestion, Role, TextPart
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vision_lm import CroppedPicture, VisionLm
from nsedge.errors import ContextExceeded, InvalidMedia, InvalidParameter
from nsedge.runtime.settings import PrefixReuse
from nsedge.runtime.vision.crops import arrangement, frame_of
from nsedge.runtime.vision.levels import level_table, normalised
from nsedge.runtime.vision.preparing import prepare_crops
from tests.export.tiny_phi4 import (
    AUDIO_TOKEN,
    CONTEXT,
    IMAGE_TOKEN,
    SIDE,
    make_phi4,
    with_adapter,
    write_phi4_folder,
)
from tests.export.vision_rig import GREEDY, LOOSE, TOKENS, media, photograph, serving, tokens_of

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

RATE = 16000
FORMS = ("cpu-fp32", "cpu-int8", "cpu-int8-native")
OF = ("pictures", "sounds")
SMALL_ROWS = 11 * 17 + 1 + 16 * 17
"""Of a crop 22 lines of patches are the picture's, all 32 columns; and the whole."""


def tune(seconds: float, pitch: float) -> Media:
    """A sound of 16 bits, so that files and arrays hold the same."""
    t = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * pitch * t * (1 + t / 3)) * 0.3 + np.sin(t * 7000) * 0.1
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="PCM_16")
    return Media(type="audio/wav", data=file.getvalue())


SMALL = photograph((0, 0, 300, 200))
WIDE = photograph((0, 100, 512, 400))
TUNE, OTHER = tune(2.03, 300), tune(3.4, 900)


def said(*parts: str | Image.Image | Media, role: Role = Role.USER) -> Message:
    content = tuple(
        TextPart(text=one)
        if isinstance(one, str)
        else MediaPart(media=media(one) if isinstance(one, Image.Image) else one)
        for one in parts
    )
    return Message(role=role, content=content)


QUESTIONS = {
    "text": [said("No media at all.")],
    "picture": [said(SMALL, "What is this?")],
    "two pictures": [said(SMALL, WIDE, "Which?")],
    "sound": [said(TUNE, "What is said?")],
    "two sounds": [said(OTHER, "Then"), said("Yes.", role=Role.ASSISTANT), said(TUNE, "And?")],
    "both": [said(SMALL, TUNE, "What is this?")],
}


class ByTransformers:
    """The model with its adapters, and its processor, as transformers has them."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        ids = self.tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, AUDIO_TOKEN])
        self.models = {
            "text": make_phi4(*ids),
            "vision": with_adapter(make_phi4(*ids), "vision"),
            "speech": with_adapter(make_phi4(*ids), "speech"),
        }
        layout = PhiSource(folder=folder, origin="").crops()
        self.layout, self.hear = layout, Phi4MultimodalFeatureExtractor()

    def answer(self, *turns: Message) -> list[int]:
        """The tokens of the greedy answer."""
        text, pictures, sounds = "", [], []
        for turn in turns:
            text += f"<|{turn.role}|>"
            for part in turn.content:
                if isinstance(part, TextPart):
                    text += part.text
                elif part.media.kind == "image":
                    pictures.append(part.media)
                    text += IMAGE_TOKEN * self._tokens(part.media)
                else:
                    samples, _ = soundfile.read(io.BytesIO(part.media.data), dtype="float32")
                    sounds.append(self.hear([samples], sampling_rate=RATE, return_tensors="pt"))
                    text += AUDIO_TOKEN * int(sounds[-1]["audio_embed_sizes"][0])
            text += "<|end|>"
        ids = self.tokenizer(text + "<|assistant|>", return_tensors="pt")["input_ids"]
        mode = "vision" if pictures else "speech" if sounds else "text"
        model = self.models[mode]
        with torch.no_grad():
            embedded = self._embedded(model, ids, pictures, sounds, mode)
            made = model.generate(
                inputs_embeds=embedded,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
            )
        return made[0].tolist()

    def _tokens(self, picture: Media) -> int:
        image = Image.open(io.BytesIO(picture.data))
        frame = frame_of(self.layout, image.height, image.width)
        return len(arrangement(self.layout, frame))

    def _embedded(
        self, model: Any, ids: Any, pictures: list[Media], sounds: list[Any], mode: str
    ) -> Any:
        """The model's own embeddings of a prompt. Sounds are given to it one after the other:
        several at once are padded, and it attends to the padding."""
        inner = getattr(model, "base_model", model)
        inner = getattr(inner, "model", inner) if mode == "text" else inner.model.model
        embedded = inner.embed_tokens(ids)
        image_ids, extend = ids.clone(), inner.embed_tokens_extend
        if pictures:
            given = pixels_of(self.layout, pictures)
            embedded = extend.image_embed(image_ids, embedded, **given)
        audio_id = extend.audio_token_id
        places = (ids[0] == audio_id).nonzero().flatten().tolist()
        for sound in sounds:
            own = int(sound["audio_embed_sizes"][0])
            mask = torch.zeros_like(ids)
            mask[0, places[:own]] = audio_id
            del places[:own]
            embedded = extend.audio_embed(
                mask,
                embedded,
                audio_input_features=sound["audio_input_features"],
                audio_embed_sizes=sound["audio_embed_sizes"],
                audio_projection_mode="vision" if pictures else "speech",
            )
        return embedded


def pixels_of(layout: CroppedPicture, pictures: list[Media]) -> dict[str, Any]:
    """What transformers' processor gives of pictures, made of our crops: padded to as many."""
    table, side = level_table(layout.steps), layout.steps.size[0] // layout.patch
    all_pixels, masks, sizes = [], [], []
    for one in pictures:
        image = Image.open(io.BytesIO(one.data))
        frame = frame_of(layout, image.height, image.width)
        crops = prepare_crops(one, layout, max_pixels=10**8).pieces
        whole = (crops[0].pixels / 255 - 0.5) / 0.5
        parts = normalised(np.stack([crop.pixels for crop in crops[1:]]), table)
        all_pixels.append(np.concatenate([whole[None], parts]).astype(np.float32))
        masks.append(np.stack([crop.bias == 0 for crop in crops]).reshape(-1, side, side))
        sizes.append((frame.rows * SIDE, frame.columns * SIDE))
    most = max(map(len, all_pixels))
    for n, (pixels, mask) in enumerate(zip(all_pixels, masks, strict=True)):
        lacking = [(0, most - len(pixels)), *[(0, 0)] * 3]
        all_pixels[n] = np.pad(pixels, lacking)
        masks[n] = np.pad(mask, lacking[:3], constant_values=True)
    return {
        "image_pixel_values": torch.from_numpy(np.stack(all_pixels)),
        "image_attention_mask": torch.from_numpy(np.stack(masks)).float(),
        "image_sizes": torch.tensor(sizes),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phi4_folder(tmp_path_factory.mktemp("models") / "Tiny-Phi-4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles") / "tiny"


@pytest.fixture
def bundle(folder: Path, made: Path, own_places: None) -> Path:
    """Made within a test, whose places it is made in."""
    out = made
    if not out.exists():
        options = ("--name", "tiny", "--out", str(out), "--variants", "cpu-int8,cpu-fp32", *LOOSE)
        assert main(["model", str(folder), *options]) == 0
    return out


def asked(bundle: Path, form: str, questions: Any, **engine: Any) -> list[list[int]]:
    """Answers to all at once."""
    with serving(bundle, form, context_tokens=CONTEXT, **engine) as (client, _):
        streams = [client.chat("tiny", turns, sampling=GREEDY) for turns in questions]
        return [tokens_of(one) for one in streams]


def test_answers_are_those_of_transformers(folder: Path, bundle: Path) -> None:
    reference = ByTransformers(folder)
    wanted = {name: reference.answer(*turns) for name, turns in QUESTIONS.items()}
    assert len({tuple(tokens) for tokens in wanted.values()}) == len(wanted)
    found = asked(bundle, "cpu-fp32", QUESTIONS.values())
    assert dict(zip(QUESTIONS, found, strict=True)) == wanted


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_kind_beside_each_other_are_each_as_alone(form: str, bundle: Path) -> None:
    many = [*QUESTIONS.values()]
    with serving(bundle, form, context_tokens=CONTEXT, prefix_reuse=PrefixReuse.OFF) as (client, _):
        alone = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in many]
    small = {"prefill_chunk_tokens": 61, "prefix_reuse": PrefixReuse.OFF}
    assert asked(bundle, form, [*many, *many], **small) == [*alone, *alone]


def test_a_prefix_is_never_one_of_another_adapter_or_projection(bundle: Path) -> None:
    """The same words before a picture, before a sound, and without either."""
    words = "The same words, and so many of them that they fill blocks. " * 3
    first = [said(words), said("Yes.", role=Role.ASSISTANT)]
    kinds = {
        "text": [*first, said("And?")],
        "picture": [*first, said(SMALL, "And?")],
        "sound": [*first, said(TUNE, "And?")],
        "both": [*first, said(SMALL, TUNE, "And?")],
    }
    with serving(bundle, "cpu-fp32", context_tokens=CONTEXT) as (client, _):
        cached = {
            name: client.chat("tiny", turns, sampling=GREEDY).collected().usage.cached_tokens
            for name, turns in kinds.items()
        }
        again = {
            name: client.chat("tiny", turns, sampling=GREEDY).collected().usage.cached_tokens
            for name, turns in kinds.items()
        }
        found = [tokens_of(client.chat("tiny", turns, sampling=GREEDY)) for turns in kinds.values()]
    # Of those with pictures the second goes on from the first up to its sound.
    assert (cached["text"], cached["picture"], cached["sound"]) == (0, 0, 0)
    assert cached["both"] > SMALL_ROWS
    assert all(again.values())
    off = {"prefix_reuse": PrefixReuse.OFF}
    assert asked(bundle, "cpu-fp32", kinds.values(), **off) == found


def test_markers_of_the_client_and_those_that_are_left_to_the_daemon(bundle: Path) -> None:
    plain = [said(SMALL, TUNE, "What?"), said("A ball.", role=Role.ASSISTANT), said(OTHER, "And?")]
    with serving(bundle, "cpu-fp32", context_tokens=CONTEXT) as (client, _):

        def read(*turns: Message) -> tuple[int, ...]:
            question = PromptQuestion(model="tiny", task=Chat(messages=turns))
            return client.read_prompt(question).token_ids

        wanted = read(*plain)
        for number in (1, 2):  # of its message, or on in the conversation
            marked = [
                said(SMALL, TUNE, "<|image_1|><|audio_1|>What?"),
                plain[1],
                said(f"<|audio_{number}|>And?", OTHER),
            ]
            assert read(*marked) == wanted
        assert read(said("Say <|image_1|>.")) != read(said("Say ."))
        for turn, told in (
            (said("<|image_1|><|image_2|>", SMALL), "2 times, and it holds 1 pictures"),
            (said("<|image_1|>", SMALL, TUNE), "0 times, and it holds 1 sounds"),
            (said("<|image_2|>", SMALL), "numbers pictures 2; they count in order"),
            (said("<|audio_2|><|audio_1|>", TUNE, OTHER), "numbers sounds 2, 1; they count"),
        ):
            with pytest.raises(InvalidParameter, match=told):
                client.chat("tiny", [turn], sampling=GREEDY).collected()


def test_what_was_heard_is_counted_and_what_cannot_be_is_refused(bundle: Path) -> None:
    with serving(bundle, "cpu-fp32", context_tokens=CONTEXT) as (client, _):
        told = client.chat("tiny", QUESTIONS["both"], sampling=GREEDY).collected().usage
        rows = -(-((round(2.03 * RATE) - 400) // 160 + 1) // 8)
        assert (told.images, told.audio_s) == (1, pytest.approx(2.03))
        assert told.media_tokens == SMALL_ROWS + rows
        long = Message(role=Role.USER, content=(MediaPart(media=tune(200.0, 300)),))
        with pytest.raises(ContextExceeded, match="the context holds 2048"):
            client.chat("tiny", [long], sampling=GREEDY).collected()
        for data, error in (
            (b"no sound", r"messages\[0\].content\[0\]: no sound that is read here"),
            (tune(0.02, 300).data, r"messages\[0\].content\[0\]: 320 samples are too short"),
        ):
            broken = said(Media(type="audio/wav", data=data), "What?")
            with pytest.raises(InvalidMedia, match=error):
                client.chat("tiny", [broken], sampling=GREEDY).collected()


def test_a_bundle_that_hears_verifies(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Bundle.open(bundle).of_kind(VisionLm).manifest
    assert manifest.media_kinds == ("image", "video", "audio")
    assert manifest.adapters is not None
    assert set(manifest.adapters.graphs) == set(FORMS)
    capsys.readouterr()  # it may have been made just now
    assert main(["verify", str(bundle), *LOOSE, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    for after in ("after_pictures", "after_sounds"):
        assert set(told["pictures"][after]) == set(FORMS)
        for name, found in told["pictures"][after].items():
            assert found["kl"] < (1e-6 if name == "cpu-fp32" else 1e-3)
    names = set(told["pictures"]["variants"])
    assert names == {f"cpu-{form} ({of})" for form in ("fp32", "int8") for of in OF}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["Phi4Other"]}, "Phi4Other has no form here"),
        ({"model_type": "phi4mm"}, "needs code of its own"),
        ({"audio_config": {"chunk_size": 18}}, "streamed chunks has no form"),
        ({"vision_config": {"crop_size": 336}}, "are not as the encoder takes them"),
    ],
)
def test_what_has_no_form_is_refused(
    changes: dict[str, Any],
    reason: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    stated = json.loads((copy / "config.json").read_text())
    for key, value in changes.items():
        stated[key] = stated[key] | value if isinstance(value, dict) else value
    (copy / "config.json").write_text(json.dumps(stated))
    assert main(["model", str(copy)]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"do_rescale": False}, "pictures that are not rescaled have no form"),
        ({"do_normalize": False}, "pictures that are not normalised have no form"),
        ({"resample": 2}, "resample 2 has no form"),
        ({"sampling_rate": 8000}, "sampling_rate 8000 has no form"),
        ({"mel_max_frequency": "high"}, "mel_max_frequency 'high' is no frequency"),
    ],
)
def test_how_media_are_prepared_is_as_here_or_refused(
    changes: dict[str, Any], reason: str, folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    settings = copy / "preprocessor_config.json"
    stated = json.loads(settings.read_text()) if settings.is_file() else {}
    settings.write_text(json.dumps(stated | changes))
    source = PhiSource(folder=copy, origin="")
    with pytest.raises(Refused, match=reason):
        _ = source.crops(), source.features(), source.mel_range()


def test_adapters_are_there_both_or_it_is_said(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(copy / "speech-lora")
    with pytest.raises(Refused, match=r"an adapter is missing: .*speech-lora"):
        PhiSource(folder=copy, origin="").adapters()
    shutil.rmtree(copy / "vision-lora")
    source = PhiSource(folder=copy, origin="")
    assert source.adapters() == {}
    assert "media go through the base alone" in source.notes()[-1]
