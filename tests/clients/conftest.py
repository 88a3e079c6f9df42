"""One real daemon for all clients, with a model that writes, one that makes vectors, and one that
hears.

NSEDGE_TEST_URL, NSEDGE_TEST_MODEL and NSEDGE_TEST_EMBEDDINGS point the clients at a running one
instead, NSEDGE_TEST_SPEECH, NSEDGE_TEST_RECORDING and NSEDGE_TEST_WYOMING those
that speak.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bench.daemon import free_port
from exporters.bundle.starter import NAME as WRITER
from exporters.encoder.starter import NAME as ENCODER
from tests.integration.conftest import embeddings_bundle, speech_bundle, starter_bundle
from tests.integration.test_cli import make_place

__all__ = ["embeddings_bundle", "speech_bundle", "starter_bundle"]


@pytest.fixture(scope="session")
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """`nsedge up`, and what programs are told of it, as environment."""
    if url := os.environ.get("NSEDGE_TEST_URL"):
        yield told(url)
        return
    writer = request.getfixturevalue("starter_bundle")
    encoder = request.getfixturevalue("embeddings_bundle")
    place = make_place(tmp_path_factory.mktemp("daemon"), writer)
    hearer = request.getfixturevalue("speech_bundle")
    place.environ["NSEDGE_MODELS_LOAD"] = f"{writer},{encoder},{hearer}"
    wyoming = f"127.0.0.1:{free_port()}"
    place.environ["NSEDGE_DOORS_WYOMING"] = wyoming
    with place.running("up", "--port", "0", "--log-level", "error") as process:
        assert process.stdout is not None
        said = dict(process.stdout.readline().split(maxsplit=1) for _ in range(2))
        speech = {
            "NSEDGE_SPEECH": hearer.name,
            "NSEDGE_RECORDING": str(hearer / "golden" / "0930.wav"),
            "NSEDGE_WYOMING": f"tcp://{wyoming}",
        }
        yield told(said["web"].strip()) | speech


def told(url: str) -> dict[str, str]:
    return {
        "NSEDGE_URL": url,
        "NSEDGE_MODEL": os.environ.get("NSEDGE_TEST_MODEL", WRITER),
        "NSEDGE_EMBEDDINGS": os.environ.get("NSEDGE_TEST_EMBEDDINGS", ENCODER),
        "NSEDGE_SPEECH": os.environ.get("NSEDGE_TEST_SPEECH", ""),
        "NSEDGE_RECORDING": os.environ.get("NSEDGE_TEST_RECORDING", ""),
        "NSEDGE_WYOMING": os.environ.get("NSEDGE_TEST_WYOMING", ""),
    }
