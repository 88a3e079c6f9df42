"""The real starter bundle, where `nsedge-export starter` puts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsedge import config
from nsedge.bundle import MANIFEST_FILE

STARTER = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def starter_bundle() -> Path:
    """The bundle's directory."""
    path = config.load(config.environment()).settings.bundles / STARTER
    if not (path / MANIFEST_FILE).is_file():
        pytest.fail(f"no bundle at {path}: run `make bundle`, or `nsedge-export starter`")
    return path
