"""The real Whisper tiny.en: its tokens are CTranslate2's, and the daemon writes what is said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from exporters.__main__ import main
from exporters.cache import Cache, cache_root
from exporters.model.speech import read_speech_shape, read_tokens
from exporters.progress import Progress
from exporters.speech.audio import features_of, mel_filters
from exporters.speech.runner import runner_of
from exporters.speech.stages import SpeechStages
from exporters.speech.starter import STARTERS, speech_source
from nsedge.api import Media, Request, Transcribe
from nsedge.api.stream import EventStream
from nsedge.api.transcripts import TranscriptText
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.speech import GoldenSpeech, Speech
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.hosting.golden_speech import tokens_of
from nsedge.runtime.settings import EngineSettings
from nsedge.runtime.speech.rules import Rules

pytestmark = pytest.mark.integration

RECORDINGS = Path("/usr/share/pocketsphinx/test/data/librivox")
CTRANSLATE2 = {
    "0870": [
        *(50363, 843, 1770, 13, 1757, 16189, 3822, 550, 788, 24638, 284, 2074, 703, 881, 612, 1244),
        *(307, 25220, 1473, 287, 465, 1176, 284, 466, 329, 606, 13, 50713),
    ],
    "0880": [50363, 679, 373, 407, 281, 1468, 12, 2777, 1335, 1862, 582, 13, 50513],
    "0890": [
        *(50363, 17486, 284, 307, 2138, 4692, 20122, 290, 2138, 20363, 318, 284, 307, 2801, 12),
        *(6381, 29813, 13, 50621),
    ],
    "0920": [
        *(50363, 11161, 339, 6405, 257, 517, 716, 3379, 2415, 11, 339, 1244, 423, 587, 925, 991),
        *(517, 27721, 621, 339, 373, 13, 50663),
    ],
    "0930": [50363, 679, 1244, 772, 423, 587, 925, 716, 3379, 2241, 13, 50513],
}
"""What CTranslate2 4.8.5 writes of the same weights, in float32, greedily (the script is in
docs/decisions/speech.md)."""
SAID = {
    "0870": "And Mr. John Dashwood had then leisure to consider how much there might be prudently"
    " in his power to do for them.",
    "0890": "Unless to be rather coldhearted and rather selfish is to be ill-disposed.",
    "0930": "He might even have been made amiable himself.",
}


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="pocketsphinx-testdata is not installed")
def test_the_tokens_are_those_of_ctranslate2() -> None:
    cache = Cache(cache_root(), Progress(None))
    stages = SpeechStages(speech_source(STARTERS["tiny.en"], cache), cache)
    shape = read_speech_shape(stages.source)
    tokens = tokens_of(read_tokens(stages.source, shape))
    runner, filters = runner_of(stages.folder, shape), mel_filters(stages.source, shape.bins)
    for name, wanted in CTRANSLATE2.items():
        path = RECORDINGS / f"sense_and_sensibility_01_austen_64kb-{name}.wav"
        runner.encode(features_of(soundfile.read(path, dtype="float32")[0], filters))
        written = runner.greedy(
            (tokens.start,), ends=(tokens.end,), most=100, rule=Rules(tokens).apply
        )
        assert list(written[:-1]) == wanted, name
        assert written[-1] == tokens.end


def test_verify_is_content(speech_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(speech_bundle), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    assert all(check["fidelity_measured"]["kl"] < 0.01 for check in told["variants"].values())


@pytest.mark.parametrize("form", [0, -1])
def test_the_daemon_writes_what_is_said(speech_bundle: Path, form: int) -> None:
    """In each form, alone and in company alike, with times of words."""
    bundle = Bundle.open(speech_bundle).of_kind(Speech)
    golden = bundle.golden("transcribe", GoldenSpeech)
    variant = bundle.manifest.components.decoder.variants[form].name

    async def ask() -> tuple[list[TranscriptText], list[TranscriptText], TranscriptText]:
        engine = EngineSettings(variants={bundle.name: variant}, slots=4)
        service = LocalService(ServiceSettings(bundles=(speech_bundle,), engine=engine))
        await service.start()

        async def one(audio: str, number: int, **more: bool) -> TranscriptText:
            media = Media(type="audio/wav", data=(speech_bundle / audio).read_bytes())
            request = Request(
                request_id=f"{audio}-{number}",
                model=bundle.name,
                task=Transcribe(media=media, **more),  # type: ignore[arg-type]
            )
            return await EventStream(service, request).transcript()

        try:
            alone = [await one(sample.audio, 0) for sample in golden]
            asked = [one(sample.audio, n) for n in range(1, 3) for sample in golden]
            words = await one(golden[-1].audio, 3, word_timestamps=True)
            return alone, await asyncio.gather(*asked), words
        finally:
            await service.stop()

    alone, together, words = asyncio.run(ask())
    assert [one.text for one in alone] == list(SAID.values())
    written = [[segment.tokens for segment in one.segments] for one in (*alone, *together)]
    assert written[3:] == written[:3] * 2
    found = [word for segment in words.segments for word in segment.words]
    assert "".join(word.text for word in found).strip() == SAID["0930"]
    times = [time for word in found for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert 2.0 < times[-1] <= words.usage.audio_s
    assert np.mean([word.probability for word in found]) > 0.5
