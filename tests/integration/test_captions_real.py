"""Captions of a tiny captioner with random weights through a whole daemon: transformers' own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import ViTImageProcessor

from exporters.bundle.orders import variants_named
from exporters.cache import Cache
from exporters.caption.build import CaptionOrder, export_caption
from exporters.meaning.serving import client_of
from exporters.model.source import Source
from exporters.progress import Progress
from nsedge.api import Constraint, Delta, Finished, Media, ModelState, Priority, Sampling, Started
from nsedge.api.media import RAW_PICTURE
from nsedge.errors import ContextExceeded, InvalidMedia, InvalidParameter, UnsupportedTask
from nsedge.ipc.client import Client
from nsedge.runtime.vision.levels import pattern
from tests.export.tiny_captioner import LENGTH, make_captioner, tokenizer, write_captioner_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

NAME, POSITIONS = "tiny-captioner", 48
LIMITS = {"kl": 0.2, "top1": 0.5, "golden": 0.3}
"""Random weights are unsure of everything."""
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner_folder(tmp_path_factory.mktemp("models") / NAME)


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    order = CaptionOrder(
        source=Source(folder=folder, origin=NAME), variants=variants_named("cpu-int8-b64,cpu-fp32")
    )
    place = tmp_path_factory.mktemp("places")
    cache = Cache(place / "cache", Progress(None))
    return export_caption(order, place / NAME, name=NAME, cache=cache, overrides=LIMITS).bundle


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[Client]:
    with client_of(bundle, variant="cpu-fp32") as made:
        yield made


class Wanted:
    """What transformers writes of pictures."""

    def __init__(self, folder: Path) -> None:
        self._model = make_captioner()
        self._processor: Any = ViTImageProcessor.from_pretrained(folder)
        self._tokenizer = tokenizer()

    def caption(self, image: Image.Image, *, beams: int = 1, prompt: str = "") -> str:
        pixels = self._processor(image, return_tensors="pt")["pixel_values"]
        start = self._tokenizer.token_to_id("<|endoftext|>")
        ids = [start, *self._tokenizer.encode(prompt).ids]
        with torch.no_grad():
            (found,) = self._model.generate(
                pixels,
                decoder_input_ids=torch.tensor([ids]),
                decoder_attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_length=LENGTH,
                num_beams=beams,
                do_sample=False,
            ).tolist()
        return str(self._tokenizer.decode(found[len(ids) :], skip_special_tokens=True))


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Wanted:
    return Wanted(folder)


def image(seed: int = 0) -> Image.Image:
    levels = pattern(seed, 40 + seed, 60 - seed).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(levels))


def media(picture: Image.Image, kind: str = "PNG", **options: Any) -> Media:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Media(type=f"image/{kind.lower()}", data=file.getvalue())


def frame(levels: NDArray[Any]) -> Media:
    return Media(
        type=RAW_PICTURE, data=levels.tobytes(), shape=levels.shape, dtype=str(levels.dtype)
    )


def test_captions_are_those_of_transformers(client: Client, wanted: Wanted) -> None:
    told = set()
    for seed in range(6):
        picture = image(seed)
        found = client.caption(NAME, media(picture), sampling=GREEDY).collected()
        assert found.text == wanted.caption(picture)
        assert (found.usage.images, found.usage.prompt_tokens) == (1, 1)
        told.add(found.text)
    assert len(told) > 1


def test_without_a_word_on_it_the_makers_search_is_used(client: Client, wanted: Wanted) -> None:
    for seed in range(4):
        picture = image(seed)
        beams = client.caption(NAME, media(picture)).collected().text
        assert beams == wanted.caption(picture, beams=4)
        asked = Sampling(beams=2)
        two = client.caption(NAME, media(picture), sampling=asked).collected().text
        assert two == wanted.caption(picture, beams=2)


def test_a_caption_goes_on_from_a_prompt(client: Client, wanted: Wanted) -> None:
    picture = image(2)
    found = client.caption(NAME, media(picture), prompt="I see", sampling=GREEDY).collected()
    assert found.text == wanted.caption(picture, prompt="I see")
    assert found.usage.prompt_tokens == 6


def _turned(picture: Image.Image) -> Media:
    exif = Image.Exif()
    exif[0x0112] = 6
    return media(picture.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def _16_bits(picture: Image.Image) -> tuple[Media, Image.Image]:
    grey = np.asarray(picture.convert("L"), np.uint16)
    return media(Image.fromarray(grey * 256 + 99), "PNG"), picture.convert("L").convert("RGB")


def test_a_picture_of_any_form_is_seen_as_viewers_show_it(client: Client, wanted: Wanted) -> None:
    """Each is captioned as the picture in RGB that a viewer shows of it."""
    picture = image(3)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    white = Image.new("RGBA", picture.size, "white")
    palette = picture.quantize(32)
    cmyk = picture.convert("CMYK")
    deep, shallow = _16_bits(picture)
    frames = [image(4), image(5).resize(image(4).size)]
    forms = [
        (_turned(picture), picture),
        (media(clear), Image.alpha_composite(white, clear).convert("RGB")),
        (media(palette), palette.convert("RGB")),
        (media(cmyk, "TIFF"), None),
        (deep, shallow),
        (
            media(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:]),
            frames[0],
        ),
        (frame(np.asarray(picture)), picture),
        (frame(np.asarray(picture, np.uint16) * 256 + 3), picture),
        (frame((np.asarray(picture) / 255).astype(np.float32)), picture),
        (frame(np.asarray(picture.convert("L"))[..., None]), picture.convert("L").convert("RGB")),
    ]
    for given, shown in forms:
        if shown is None:
            with pytest.raises(InvalidMedia, match="no picture in JPEG, PNG"):
                client.caption(NAME, given).collected()
            continue
        found = client.caption(NAME, given, sampling=GREEDY).collected().text
        assert found == wanted.caption(shown)


def test_what_is_wrong_is_told_by_name(client: Client) -> None:
    good = media(image())
    for picture, error, told in (
        (b"no picture at all", InvalidMedia, "no picture in JPEG"),
        (good.data[: len(good.data) // 2], InvalidMedia, "cannot be decoded"),
        (Media(type="audio/wav", data=b"RIFF"), InvalidParameter, "audio/wav is no picture"),
    ):
        with pytest.raises(error, match=told):
            client.caption(NAME, picture).collected()
    for fields, error, told in (
        ({"sampling": Sampling(max_tokens=POSITIONS)}, ContextExceeded, "context of 48"),
        ({"prompt": "x" * POSITIONS}, ContextExceeded, "context holds 48"),
        ({"sampling": Sampling(stop_token_ids=(999,))}, InvalidParameter, "token 999"),
    ):
        with pytest.raises(error, match=told):
            client.caption(NAME, good, **fields).collected()
    with pytest.raises(UnsupportedTask, match="caption"):
        client.embed(NAME, ["x"]).embeddings()


def test_choices_and_forms_are_as_text_has_them(client: Client) -> None:
    picture = media(image(1))
    drawn = Sampling(n=3, temperature=1.0, seed=7, max_tokens=4)
    first, again = (client.caption(NAME, picture, sampling=drawn).collected() for _ in range(2))
    texts, others = (
        [(one.choice, one.token_ids) for one in found.results if isinstance(one, Delta)]
        for found in (first, again)
    )
    assert sorted(texts) == sorted(others)
    assert {choice for choice, _ in texts} == {0, 1, 2}
    assert first.usage.completion_tokens <= 12
    held = Constraint.choice(["a cat", "a dog"])
    assert client.caption(NAME, picture, constraint=held).collected().text in ("a cat", "a dog")


def test_many_at_once_are_each_their_own(client: Client, wanted: Wanted) -> None:
    """As many again as rows, of several lengths; some are left."""
    pictures = [image(seed % 8) for seed in range(40)]
    asked = [
        client.caption(
            NAME,
            media(picture),
            sampling=GREEDY,
            priority=Priority.BATCH if number % 3 else Priority.INTERACTIVE,
        )
        for number, picture in enumerate(pictures)
    ]
    for stream in asked[::5]:
        next(iter(stream))
        stream.cancel()
    expected = [wanted.caption(image(seed)) for seed in range(8)]
    for number, stream in enumerate(asked):
        events = list(stream)
        last = events[-1]
        assert isinstance(last, Finished)
        assert sum(isinstance(one, Finished) for one in events) == 1
        if number % 5:
            text = "".join(getattr(one, "text", "") for one in events)
            assert text == expected[number % 8]
    told = client.stats().models[NAME]
    assert (told.running, told.waiting) == (0, 0)


def test_it_is_a_model_like_others_to_residency_and_stats(client: Client) -> None:
    (info,) = client.models()
    assert (info.kind, info.tasks, info.state) == ("caption", ("caption",), ModelState.READY)
    assert info.context_tokens == POSITIONS
    before = client.stats().models[NAME]
    events = list(client.caption(NAME, media(image()), sampling=GREEDY))
    assert isinstance(events[0], Started)
    after = client.stats().models[NAME]
    assert after.completion_tokens > before.completion_tokens
    assert sum(after.finished.values()) == sum(before.finished.values()) + 1
    client.unload(NAME)
    (gone,) = client.models()
    assert gone.state is ModelState.ABSENT
    found = client.caption(NAME, media(image()), sampling=GREEDY).collected()
    assert found.usage.images == 1


@pytest.mark.parametrize("variant", ["cpu-int8-b64", "cpu-int8-b64-native"])
def test_quantised_forms_write_captions_too(bundle: Path, variant: str) -> None:
    with client_of(bundle, variant=variant) as client:
        found = [
            client.caption(NAME, media(image(seed)), sampling=GREEDY).collected()
            for seed in range(6)
        ]
    assert all(one.usage.completion_tokens == LENGTH - 1 for one in found)
    assert len({one.text for one in found}) > 1
