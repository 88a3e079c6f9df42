"""The real daemon with the real model, in processes that a test may break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site, site
from tests.integration.conftest import (
    captioner,
    dual_encoder,
    embeddings_bundle,
    masked,
    names,
    speech_bundle,
    starter_bundle,
    vision_lm,
)

__all__ = [
    "captioner",
    "dual_encoder",
    "embeddings_bundle",
    "masked",
    "names",
    "speech_bundle",
    "starter_bundle",
    "vision_lm",
]


@pytest.fixture(scope="session")
def standing(starter_bundle: Path) -> Iterator[Site]:
    """A core and a shim that outlive what is done to them: shared by the tests of clients that
    misbehave, each of which leaves them as they were."""
    with site(starter_bundle, core="heartbeat_s = 0.3\nliveness_s = 1.0\n") as made:
        made.start()
        yield made
