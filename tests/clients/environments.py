"""Environments of clients that are not ours, each made once below .venvs: what cannot be installed
skips the tests that need it, with the reason."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1] / ".venvs" / "clients"
MIN_NODE = 18
PACKAGES: dict[str, tuple[str, ...]] = {
    "anthropic": ("anthropic==2.14.0",),
    "cohere": ("cohere==7.3.1",),
    "instructor": ("instructor==1.17.0", "anthropic==2.14.0", "openai==3.3.0"),
    "langchain": (
        "langchain==1.5.2",
        "langchain-anthropic==1.7.10",
        "langchain-ollama==1.1.0",
        "langchain-openai==1.7.4",
    ),
    "litellm": ("litellm==1.110.2",),
    "ollama": ("ollama==0.6.3",),
    "openai": ("openai==3.57.0",),
    "openai_realtime": ("openai[realtime]==3.57.0",),
    "openai_agents": ("openai-agents==0.24.0", "openai==3.57.0"),
    "wyoming": ("wyoming==1.10.2",),
    "pydantic_ai": ("pydantic-ai-slim[anthropic,openai]==2.68.0",),
}
"""Program -> what it is run with."""
TOOLS: dict[str, tuple[str, ...]] = {"schemathesis": ("schemathesis==4.32.5",)}
"""What is run as it is."""


def python_of(name: str) -> Path:
    """The interpreter of the client or tool `name`, with its packages."""
    packages = (PACKAGES | TOOLS)[name]
    chosen = _digest(" ".join(packages).encode())
    folder = ROOT / f"{name}-{chosen}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *packages], folder)
        (folder / "installed").touch()
    return python


def node_folder() -> Path:
    """A folder with the packages of tests/clients/node, whose scripts are copied into it."""
    if _node_version() < MIN_NODE or shutil.which("npm") is None:
        pytest.skip(f"needs node {MIN_NODE} or newer, and npm")
    source = HERE / "node"
    folder = ROOT / f"node-{_digest((source / 'package-lock.json').read_bytes())}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        (folder / "installed").touch()
    for script in source.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _run(command: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-300:]}")


def _node_version() -> int:
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(found.stdout.strip().removeprefix("v").split(".")[0])
