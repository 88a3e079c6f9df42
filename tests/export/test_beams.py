"""Beam search held to transformers' own, over tiny models with random weights in fp32."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from exporters.__main__ import main
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.runtime.settings import EngineSettings
from tests.beam_reference import SEARCHES, Beams
from tests.export.tiny import VOCABULARY, write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_cache")]
END = 2
PROMPTS = 3


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_tiny_model_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    folder, out = write_model_folder(tmp_path / "Tiny", name), tmp_path / "tiny"
    assert main(["model", str(folder), "--scheme", "fp32", "--out", str(out)]) == 0
    torch.set_num_threads(1)  # steps this small are slower with more
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chance = torch.Generator().manual_seed(7)

    async def play() -> None:
        engine = EngineSettings(slots=8, context_tokens=96)
        service = LocalService(ServiceSettings(bundles=(out,), engine=engine))
        await service.start()
        try:
            for number in range(PROMPTS):
                prompt = torch.randint(3, VOCABULARY, (4 + 7 * number,), generator=chance).tolist()
                wanted = [
                    Beams(prompt=prompt, end=END, max_tokens=10 + 3 * number, fields=fields)
                    for fields in SEARCHES
                ]
                # All at once: they share steps.
                ours = await asyncio.gather(*(one.of_service(service, out.name) for one in wanted))
                for one, (texts, scores) in zip(wanted, ours, strict=True):
                    theirs, their_scores = one.of_transformers(model)
                    assert texts == theirs, one.fields
                    if not {"repetition_penalty", "min_tokens"} & set(one.fields):
                        assert scores == pytest.approx(their_scores, abs=1e-3, rel=1e-4)
        finally:
            await service.stop()

    asyncio.run(play())
