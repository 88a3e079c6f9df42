"""The kinds of models that a daemon serves: the fixture of a real bundle of each, and a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nsedge.api import Media
from nsedge.api.stream import EventStream
from nsedge.ipc.client import AsyncClient
from tests.faults.site import GREEDY, PROMPT

TEXTS = (*["Wind and weather. " * 20, "The ferry leaves at six.", "Tea costs two euros."] * 8,)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of model. `ask` begins a request that ends well, of the model of a bundle."""

    fixture: str
    ask: Callable[[AsyncClient, Path], EventStream]

    def bundle(self, request: pytest.FixtureRequest) -> Path:
        """The directory of its bundle."""
        found: Path = request.getfixturevalue(self.fixture)
        return found


def recording(bundle: Path) -> Media:
    """Two seconds of speech, of those that a speech model comes with."""
    return Media(type="audio/wav", data=(bundle / "golden" / "0930.wav").read_bytes())


def _write(client: AsyncClient, bundle: Path) -> EventStream:
    return client.generate(bundle.name, PROMPT, sampling=GREEDY)


def _embed(client: AsyncClient, bundle: Path) -> EventStream:
    return client.embed(bundle.name, TEXTS)


def _classify(client: AsyncClient, bundle: Path) -> EventStream:
    return client.classify(bundle.name, TEXTS)


def _fill(client: AsyncClient, bundle: Path) -> EventStream:
    return client.fill(bundle.name, [f"{text} [MASK]." for text in TEXTS])


def _transcribe(client: AsyncClient, bundle: Path) -> EventStream:
    return client.transcribe(bundle.name, recording(bundle))


KINDS = {
    "text": Kind(fixture="starter_bundle", ask=_write),
    "embeddings": Kind(fixture="embeddings_bundle", ask=_embed),
    "labels": Kind(fixture="names", ask=_classify),
    "masks": Kind(fixture="masked", ask=_fill),
    "speech": Kind(fixture="speech_bundle", ask=_transcribe),
}
