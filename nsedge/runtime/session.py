"""ONNX Runtime sessions: which devices can be used here, and opening a graph on one."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from pathlib import Path
from typing import Any

import onnxruntime as ort

from nsedge import native
from nsedge.errors import BundleInvalid, DeviceUnavailable
from nsedge.runtime import memory

SPIN_US = 20
"""How long an idle thread looks for work before it sleeps. Longer is no faster where the cores are
free, and where they are not, a thread that looks for work keeps one from a thread that has some."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_BACKED = frozenset({"cpu"})
"""Devices whose memory the executor binds."""


def available_providers() -> tuple[str, ...]:
    """The execution providers that this build of ONNX Runtime could use here."""
    return tuple(ort.get_available_providers())


def engine_version() -> str:
    """ONNX Runtime's version."""
    return str(ort.__version__)


def can_run(device: str) -> bool:
    """Whether variants for `device` run here."""
    return device in _BACKED and _PROVIDERS[device] in available_providers()


def open_session(graph: Path, device: str, threads: int, requires: tuple[str, ...] = ()) -> Any:
    """A session of `graph` on `device`, with `threads` intra-op threads and what it `requires`.

    Raises:
        DeviceUnavailable: where the device's provider is not the one in use.
        BundleInvalid: where the graph cannot be loaded.
    """
    provider = _PROVIDERS[device]
    if not can_run(device):
        raise DeviceUnavailable(
            f"{graph} needs {provider}; this release runs on {', '.join(sorted(_BACKED))}, and"
            f" ONNX Runtime offers {', '.join(available_providers())} here"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads must not take the cores from clients between two steps.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    try:
        if native.REQUIREMENT in requires:
            options.register_custom_ops_library(str(native.library()))
        session = ort.InferenceSession(str(graph), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise BundleInvalid(f"{graph} cannot be loaded: {error}") from error
    in_use = session.get_providers()[0]
    if in_use != provider:
        raise DeviceUnavailable(f"{graph} needs {provider}, but {in_use} is in use")
    memory.trim()
    memory.drop_mapped(graph.parent)
    return session
