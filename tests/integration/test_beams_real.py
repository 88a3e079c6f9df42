"""Beam search of the real models: what transformers finds in fp32, and the same in any company."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from exporters.bundle.orders import usual_variant
from exporters.bundle.starter import NAME, export_starter
from exporters.bundle.starter_folder import starter_source
from exporters.cache import Cache, cache_root
from exporters.progress import Progress
from exporters.quantise.schemes import REFERENCE_SCHEME, SCHEMES, Device, KvFormat
from nsedge.api import Generate, Sampling
from nsedge.core.service import LocalService
from tests.beam_reference import SEARCHES, Beams
from tests.integration.test_engine_real import MODEL, asking, events_of, play, text_of

pytestmark = pytest.mark.integration
END = 2
TEXTS = (
    "Once upon a time, there was a lighthouse keeper who",
    "<|im_start|>user\nName the capital of France.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n):\n",
)


def test_the_model_in_fp32_writes_what_transformers_writes(tmp_path: Path) -> None:
    cache = Cache(cache_root(), Progress(None))
    variant = usual_variant(SCHEMES[REFERENCE_SCHEME], KvFormat.FLOAT32, Device.CPU)
    bundle = export_starter(cache, tmp_path / NAME, variants=(variant,)).bundle
    folder = starter_source(cache).folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    async def scene(service: LocalService) -> None:
        for text in TEXTS:
            prompt = tokenizer.encode(text, add_special_tokens=False).ids
            for fields in SEARCHES:
                one = Beams(prompt=prompt, end=END, max_tokens=16, fields=fields)
                texts, _ = await one.of_service(service, MODEL)
                theirs, _ = one.of_transformers(model)
                assert texts == theirs, fields

    play(bundle, scene, slots=8, context_tokens=256)


@pytest.mark.parametrize("bundle", ["starter_bundle", "standard_bundle"])
def test_a_search_finds_the_same_alone_and_among_others(
    bundle: str, request: pytest.FixtureRequest
) -> None:
    mine = asking(Generate(text=TEXTS[0]), Sampling(beams=4, max_tokens=16, length_penalty=0.5))

    async def scene(service: LocalService) -> None:
        alone = text_of(await events_of(service, mine))
        others = [
            asking(
                Generate(text=f"Story {i}:" + " and then" * (3 * i)),
                Sampling(seed=i, max_tokens=6 + 2 * i, ignore_eos=True),
            )
            for i in range(6)
        ]
        others += [asking(Generate(text=TEXTS[2]), Sampling(beams=3, n=2, max_tokens=12))]
        running = [asyncio.create_task(events_of(service, other)) for other in others[:3]]
        await asyncio.sleep(0)
        me = asyncio.create_task(events_of(service, mine))
        running += [asyncio.create_task(events_of(service, other)) for other in others[3:]]
        assert text_of(await me) == alone
        await asyncio.gather(*running)

    play(request.getfixturevalue(bundle), scene, slots=16, context_tokens=256)
