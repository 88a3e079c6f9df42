"""faster-whisper in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from bench.peers.building import Builder

VERSIONS = {"faster-whisper": "1.2.1", "ctranslate2": "4.8.5"}


def environment(builder: Builder) -> Path:
    """The interpreter."""
    wanted = [f"{name}=={version}" for name, version in VERSIONS.items()]
    return builder.environment("whisper", wanted)
