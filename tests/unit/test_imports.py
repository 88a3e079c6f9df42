"""What the daemon may load, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "optimum", "onnx", "exporters", "peft", "safetensors")
DAEMON = ("nsedge.core.service", "nsedge.__main__", "nsedge.ipc.server", "nsedge.cli.serve")


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages in a fresh interpreter that imported `modules`."""
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *modules], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_daemon_runs_without_the_exporters_libraries():
    loaded = loaded_by(*DAEMON, "nsedge.web.app", "nsedge.cli.web", "nsedge.cli.doctor")
    assert loaded.isdisjoint(HEAVY)
    assert {"onnxruntime", "zmq", "aiohttp"} <= loaded


@pytest.mark.parametrize("command", ["run", "chat", "models", "stats", "transcribe", "up"])
def test_a_client_command_never_waits_for_the_engine(command):
    loaded = loaded_by("nsedge.__main__", f"nsedge.cli.{command}")
    assert loaded.isdisjoint({*HEAVY, "onnxruntime", "numpy", "tokenizers", "aiohttp"})


def test_grammars_are_loaded_with_the_first_constraint():
    assert "llguidance" not in loaded_by(*DAEMON, "nsedge.runtime.structure.structure")
    assert "llguidance" in loaded_by("nsedge.runtime.structure.grammars")


def test_sound_is_decoded_by_what_is_loaded_with_the_first():
    decoders = {"soundfile", "soxr"}
    modules = ("recording", "voice", "mel", "timeline")
    others = [f"nsedge.runtime.audio.{name}" for name in modules]
    loaded = loaded_by(
        *DAEMON, *others, "nsedge.runtime.speech.transcript", "nsedge.cli.transcribe"
    )
    assert loaded.isdisjoint(decoders)
    assert decoders <= loaded_by("nsedge.runtime.audio.sound")


def test_pillow_is_loaded_with_the_first_picture():
    reader = "nsedge.runtime.vision.reader"
    assert "PIL" not in loaded_by(*DAEMON, "nsedge.runtime.hosting.kinds", reader)
    assert "PIL" in loaded_by("nsedge.runtime.vision.preparing")


def test_the_core_never_loads_http():
    assert "aiohttp" not in loaded_by(*DAEMON)


def test_the_shim_never_loads_the_engine():
    loaded = loaded_by("nsedge.__main__", "nsedge.cli.web")
    assert loaded.isdisjoint({*HEAVY, "onnxruntime", "numpy", "tokenizers"})
