"""ONNX Runtime sessions: which devices can be used here, and opening a graph on one."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from pathlib import Path
from typing import Any

import onnxruntime as ort

from nsedge import native
from nsedge.errors import BundleInvalid, DeviceUnavailable
from nsedge.runtime.graph import cuda
from nsedge.runtime.machine import memory

SPIN_US = 20
"""How long an idle thread looks for work before it sleeps. Longer is no faster where the cores are
free, and where they are not, a thread that looks for work keeps one from a thread that has some."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CPU = "cpu"
# onnxruntime_session_options_config_keys.h: where a model read from memory has its weights.
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def available_providers() -> tuple[str, ...]:
    """The execution providers that this build of ONNX Runtime could use here."""
    return tuple(ort.get_available_providers())


def engine_version() -> str:
    """ONNX Runtime's version."""
    return str(ort.__version__)


def can_run(device: str) -> bool:
    """Whether variants for `device` run here."""
    return why_not(device) is None


def why_not(device: str) -> str | None:
    """What is missing here for variants for `device`; None where they run.

    ONNX Runtime names a provider that it was built with, whether or not there is a GPU for it.
    """
    provider, offered = _PROVIDERS[device], available_providers()
    if provider not in offered:
        return f"ONNX Runtime offers {', '.join(offered)} here, not {provider}"
    if device != _CPU and cuda.device_count() == 0:
        return f"{provider} needs an NVIDIA GPU, and the driver offers none here"
    return None


def open_session(
    graph: Path,
    device: str,
    threads: int,
    *,
    requires: tuple[str, ...] = (),
    captures: bool = False,
    weights: Path | None = None,
    shares: int = 0,
    patterns: bool = True,
) -> Any:
    """A session of `graph` on `device`, with `threads` intra-op threads and what it `requires`.

    `captures` lets runs on a GPU be captured as CUDA graphs. `weights` is the directory of the
    files that hold its weights, where that is not the graph's own. Sessions of one model that were
    given the same number, from 1 on, as `shares` hold packed weights once. Without
    `patterns`, a run of shapes that were run before takes its memory piece by piece as the first
    one did, and not as one block beside that, which holds as much again.

    Raises:
        DeviceUnavailable: where the device's provider is not the one in use.
        BundleInvalid: where the graph cannot be loaded, or not wholly on the device.
    """
    provider = _PROVIDERS[device]
    if (reason := why_not(device)) is not None:
        raise DeviceUnavailable(f"{graph} needs {provider}: {reason}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = patterns
    options.log_severity_level = 3
    # Idle threads must not take the cores from clients between two steps.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    source: str | bytes = str(graph)
    settings = {}
    if device != _CPU:
        settings = cuda.provider_settings(captures=captures)
        # A node that would run on the CPU after all is an error, not a slow model.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        native.register(options, requires)
        if weights is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights))
            source = graph.read_bytes()
        with native.sharing(shares):
            session = ort.InferenceSession(source, options, providers=[(provider, settings)])
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise BundleInvalid(f"{graph} cannot be loaded: {error}") from error
    in_use = session.get_providers()[0]
    if in_use != provider:
        raise DeviceUnavailable(f"{graph} needs {provider}, but {in_use} is in use")
    memory.trim()
    memory.drop_mapped(weights or graph.parent)
    return session
