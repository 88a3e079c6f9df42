"""A cross-encoder that learned for a minute, on a real encoder's weights, ranks documents for
sentences that it has not seen: through a daemon, and at the HTTP door as transformers does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench.daemon import free_port
from exporters.cache import Cache, cache_root
from exporters.meaning.docstrings import read_pairs
from exporters.meaning.ranking import AMONG, ASKED, SHORT, measure, questions, trained
from exporters.progress import Progress
from tests.integration.test_access_real import up
from tests.web_server import ask

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

WITHIN_S = 120
CLOSE = 1e-4
"""Of scores from 0 to 1, both in fp32."""


class Reference:
    """Scores by transformers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def scores(self, question: str, documents: list[str]) -> list[float]:
        pairs = [question] * len(documents), documents
        read = self._tokenizer(*pairs, padding=True, return_tensors="pt")
        with torch.no_grad():
            scores: list[float] = torch.sigmoid(self._model(**read).logits[:, 0]).tolist()
        return scores


def test_it_ranks_what_belongs_to_a_sentence_first(tmp_path: Path) -> None:
    cache = Cache(cache_root(), Progress(None))
    found = measure(cache, SHORT)
    assert found.passed, found
    assert min(one.asked for one in found.found) == ASKED
    pairs = read_pairs()
    reference = Reference(trained(cache, pairs[ASKED:], SHORT)[0])
    bundle = cache.root / "meaning-bundles" / f"small-reranker-{SHORT.steps}"
    port = free_port()

    async def ranked(question: str, documents: list[str]) -> list[Any]:
        body = {"model": bundle.name, "query": question, "documents": documents, "top_n": 3}
        async with asyncio.timeout(WITHIN_S):
            answer = await ask(port, "POST", "/v1/rerank", body)
        assert answer.status == 200, answer.body
        return answer.json["results"]  # type: ignore[no-any-return, index]

    right = 0
    some = list(questions(pairs[:ASKED]))[:20]
    with up(
        tmp_path,
        NSEDGE_MODELS_LOAD=str(bundle),
        NSEDGE_MODELS_VARIANTS=f"{bundle.name}=cpu-fp32",
        NSEDGE_WEB_PORT=str(port),
    ):
        for question, documents, place in some:
            told = asyncio.run(ranked(question, documents))
            wanted = reference.scores(question, documents)
            assert len(documents) == AMONG
            for one in told:
                assert one["document"]["text"] == documents[one["index"]]
                assert one["relevance_score"] == pytest.approx(wanted[one["index"]], abs=CLOSE)
            right += told[0]["index"] == place
    assert right >= SHORT.demanded * len(some)
