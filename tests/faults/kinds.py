"""The kinds of models that a daemon serves: the fixture of a real bundle of each, and a request."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from nsedge.api import Media, MediaPart, Message, Role, Sampling, TextPart
from nsedge.api.stream import EventStream
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.vision.levels import pattern
from tests.faults.site import ENDLESS, GREEDY, PROMPT

TEXTS = (*["Wind and weather. " * 20, "The ferry leaves at six.", "Tea costs two euros."] * 8,)
LONG = 40
"""How often a request that takes seconds has what another has once."""
LONG_CAPTION = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True)
MANY_CAPTIONS = Sampling(temperature=1.0, seed=1, n=32, max_tokens=400, ignore_eos=True)
PICTURES, MANY_PICTURES = 8, 250


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of model. `ask` begins a request that ends well, of the model of a bundle; `ask_long`
    one that takes seconds."""

    fixture: str
    ask: Callable[[AsyncClient, Path], EventStream]
    ask_long: Callable[[AsyncClient, Path], EventStream]

    def bundle(self, request: pytest.FixtureRequest) -> Path:
        """The directory of its bundle."""
        found: Path = request.getfixturevalue(self.fixture)
        return found


def recording(bundle: Path, *, times: int = 1) -> Media:
    """Two seconds of speech, of those that a speech model comes with, said so many times."""
    samples, rate = soundfile.read(bundle / "golden" / "0930.wav", dtype="int16")
    written = io.BytesIO()
    soundfile.write(written, np.tile(samples, times), rate, format="WAV")
    return Media(type="audio/wav", data=written.getvalue())


def picture(number: int) -> Media:
    """A pattern of that number in a file of 96 x 72 pixels."""
    levels = np.ascontiguousarray(pattern(number, 72, 96).transpose(1, 2, 0))
    written = io.BytesIO()
    Image.fromarray(levels).save(written, "PNG", compress_level=1)
    return Media(type="image/png", data=written.getvalue())


def _write(client: AsyncClient, bundle: Path) -> EventStream:
    return client.generate(bundle.name, PROMPT, sampling=GREEDY)


def _write_long(client: AsyncClient, bundle: Path) -> EventStream:
    return client.generate(bundle.name, PROMPT, sampling=ENDLESS)


def _embed(client: AsyncClient, bundle: Path, times: int = 1) -> EventStream:
    return client.embed(bundle.name, TEXTS * times)


def _classify(client: AsyncClient, bundle: Path, times: int = 1) -> EventStream:
    return client.classify(bundle.name, TEXTS * times)


def _fill(client: AsyncClient, bundle: Path, times: int = 1) -> EventStream:
    return client.fill(bundle.name, [f"{text} [MASK]." for text in TEXTS * times])


def _transcribe(client: AsyncClient, bundle: Path, times: int = 1) -> EventStream:
    media = recording(bundle, times=times)
    return client.transcribe(bundle.name, media, word_timestamps=True)


def _caption(client: AsyncClient, bundle: Path) -> EventStream:
    return client.caption(bundle.name, picture(1), sampling=LONG_CAPTION)


def _caption_long(client: AsyncClient, bundle: Path) -> EventStream:
    return client.caption(bundle.name, picture(1), sampling=MANY_CAPTIONS)


def _see(client: AsyncClient, bundle: Path, count: int = PICTURES) -> EventStream:
    return client.embed(bundle.name, [*TEXTS, *map(picture, range(count))], truncate=True)


def _tell(client: AsyncClient, bundle: Path, sampling: Sampling = LONG_CAPTION) -> EventStream:
    pictures = (MediaPart(media=picture(number)) for number in range(3))
    shown = (*pictures, TextPart(text="Tell them apart."))
    asked = [Message(role=Role.USER, content=shown)]
    return client.chat(bundle.name, asked, sampling=sampling)


KINDS = {
    "text": Kind(fixture="starter_bundle", ask=_write, ask_long=_write_long),
    "embeddings": Kind(
        fixture="embeddings_bundle", ask=_embed, ask_long=partial(_embed, times=LONG)
    ),
    "labels": Kind(fixture="names", ask=_classify, ask_long=partial(_classify, times=LONG)),
    "masks": Kind(fixture="masked", ask=_fill, ask_long=partial(_fill, times=LONG)),
    "speech": Kind(
        fixture="speech_bundle", ask=_transcribe, ask_long=partial(_transcribe, times=LONG)
    ),
    "captions": Kind(fixture="captioner", ask=_caption, ask_long=_caption_long),
    "pictures": Kind(fixture="dual_encoder", ask=_see, ask_long=partial(_see, count=MANY_PICTURES)),
    "sight": Kind(fixture="vision_lm", ask=_tell, ask_long=partial(_tell, sampling=MANY_CAPTIONS)),
}
