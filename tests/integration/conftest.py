"""The real starter bundle, from the user's cache: whatever was made before is not made again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporters.cache import Cache, cache_root
from exporters.progress import Progress
from exporters.starter import NAME, export_starter


@pytest.fixture(scope="session")
def starter_bundle() -> Path:
    """The bundle's directory."""
    root = cache_root()
    cache = Cache(root, Progress(sys.__stderr__))
    return export_starter(cache, root / "tests" / NAME).bundle
