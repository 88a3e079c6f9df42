"""sentence-transformers in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from bench.peers.building import Builder

VERSIONS = {"sentence-transformers": "6.2.0", "torch": "2.13.0", "transformers": "5.24.0"}


def environment(builder: Builder) -> Path:
    """The interpreter."""
    wanted = [f"{name}=={version}" for name, version in VERSIONS.items()]
    return builder.environment("sentences", wanted)
