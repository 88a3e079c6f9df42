"""What Ollama's clients are told of models; pure."""

from __future__ import annotations

from typing import Any

from nsedge.api import ModelInfo, ModelState, UsageReport
from nsedge.api.models import FOREVER_S
from nsedge.web.doors.ollama.answers import rfc3339

NEVER = "9999-12-31T23:59:59Z"
"""When a model leaves that is kept for ever."""
_CAPABILITIES = {"generate": "completion", "embed": "embedding"}
_IN_MEMORY = (ModelState.READY, ModelState.DRAINING)


def tags(models: tuple[ModelInfo, ...]) -> dict[str, Any]:
    """The answer of `/api/tags`: every model that there is."""
    return {"models": [{**_common(one), "modified_at": rfc3339(one.created)} for one in models]}


def running(models: tuple[ModelInfo, ...], usage: UsageReport, now_s: float) -> dict[str, Any]:
    """The answer of `/api/ps`: the models in memory. now_s: seconds since the Unix epoch."""
    return {
        "models": [
            {
                **_common(one),
                "expires_at": _expiry(one, usage, now_s),
                "size_vram": 0 if one.memory is None else one.memory.device_bytes,
                "context_length": one.context_tokens,
            }
            for one in models
            if one.state in _IN_MEMORY
        ]
    }


def shown(model: ModelInfo) -> dict[str, Any]:
    """The answer of `/api/show`."""
    facts: dict[str, Any] = {
        "general.architecture": model.kind,
        "general.basename": model.name,
        f"{model.kind}.context_length": model.context_tokens,
    }
    if model.dimensions is not None:
        facts[f"{model.kind}.embedding_length"] = model.dimensions
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": facts,
        "capabilities": [_CAPABILITIES[one] for one in model.tasks if one in _CAPABILITIES],
        "modified_at": rfc3339(model.created),
    }


def _common(model: ModelInfo) -> dict[str, Any]:
    held = model.memory
    return {
        "name": model.name,
        "model": model.name,
        "size": 0 if held is None else held.weights_bytes + held.kv_bytes + held.arena_bytes,
        "digest": "",
        "details": _details(model),
    }


def _details(model: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": model.base or "",
        "format": "onnx",
        "family": model.kind,
        "families": [model.kind],
        "parameter_size": "",
        "quantization_level": model.variant or "",
    }


def _expiry(model: ModelInfo, usage: UsageReport, now_s: float) -> str:
    """When the model leaves if nobody uses it: its keep-alive after it was last used, as far as
    that is known, and from now on where it is in use."""
    if model.pinned or model.keep_alive_s is None or model.keep_alive_s == FOREVER_S:
        return NEVER
    used = usage.models.get(model.name)
    since_s = now_s if used is None or model.in_use else min(used.last_used_s, now_s)
    return rfc3339(max(since_s + model.keep_alive_s, now_s))
