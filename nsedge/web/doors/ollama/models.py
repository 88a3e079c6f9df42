"""What Ollama's clients are told of models; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from nsedge.api import ModelCard, ModelInfo, ModelState, UsageReport
from nsedge.api.models import FOREVER_S
from nsedge.web.doors.ollama.answers import rfc3339
from nsedge.web.doors.ollama.shapes import CommonTag, Details, RunningTags, Shown, Tags

LATEST = ":latest"
"""The tag of a model that was named without one; here names have none."""
NEVER = "9999-12-31T23:59:59Z"
"""When a model leaves that is kept for ever."""
_CAPABILITIES = {"generate": "completion", "chat": "tools", "embed": "embedding"}
_NAMES = {"repetition_penalty": "repeat_penalty", "penalty_last_n": "repeat_last_n"}
_HEAD = re.compile(r"(For[A-Z]\w*|Model)$")
"""What a class is for, behind the name of its family."""
_NO_DIGEST = "0" * 64
"""Of a package that cannot be read; clients cut a digest short, and want one."""
_IN_MEMORY = (ModelState.READY, ModelState.DRAINING)


Cards = Mapping[str, ModelCard]
"""By the names of models; of one whose package cannot be read, there is none."""


def tags(models: Sequence[ModelInfo], cards: Cards) -> Tags:
    """The answer of `/api/tags`: every model that there is."""
    return {
        "models": [
            {
                **_common(one, cards),
                "size": cards[one.name].bytes if one.name in cards else 0,
                "modified_at": rfc3339(one.created),
            }
            for one in models
        ]
    }


def running(
    models: Sequence[ModelInfo], cards: Cards, usage: UsageReport, now_s: float
) -> RunningTags:
    """The answer of `/api/ps`: the models in memory. now_s: seconds since the Unix epoch."""
    return {
        "models": [
            {
                **_common(one, cards),
                "size": _held(one),
                "expires_at": _expiry(one, usage, now_s),
                "size_vram": 0 if one.memory is None else one.memory.device_bytes,
                "context_length": one.context_tokens,
            }
            for one in models
            if one.state in _IN_MEMORY
        ]
    }


def shown(model: ModelInfo, card: ModelCard) -> Shown:
    """The answer of `/api/show`."""
    family = _family(model, card)
    facts: dict[str, str | int | float] = {
        "general.architecture": family,
        "general.basename": model.name,
        "general.parameter_count": card.parameters,
        f"{family}.context_length": model.context_tokens or card.context_tokens,
        f"{family}.vocab_size": card.vocab_size,
    }
    if model.dimensions is not None:
        facts[f"{family}.embedding_length"] = model.dimensions
    return {
        "modelfile": f"FROM {model.name}",
        "license": card.licence,
        "parameters": "\n".join(f"{name} {value:g}" for name, value in _options(card)),
        "template": card.chat_template or "",
        "details": _details(model, card),
        "model_info": facts,
        "capabilities": [_CAPABILITIES[one] for one in model.tasks if one in _CAPABILITIES],
        "modified_at": rfc3339(model.created),
    }


def _options(card: ModelCard) -> Iterator[tuple[str, float]]:
    """What it is sampled by where a request says nothing, by Ollama's names."""
    for name, value in card.defaults.items():
        yield _NAMES.get(name, name), value


def tagged(name: str) -> str:
    """A name as Ollama lists it, with a tag: clients put one behind names that have none, and look
    for it among those that are listed."""
    return name if ":" in name else name + LATEST


def _common(model: ModelInfo, cards: Cards) -> CommonTag:
    card = cards.get(model.name)
    return {
        "name": tagged(model.name),
        "model": tagged(model.name),
        "digest": _NO_DIGEST if card is None else card.sha256,
        "details": _details(model, card),
    }


def _held(model: ModelInfo) -> int:
    held = model.memory
    return 0 if held is None else held.weights_bytes + held.kv_bytes + held.arena_bytes


def _details(model: ModelInfo, card: ModelCard | None) -> Details:
    family = _family(model, card)
    schemes = () if card is None else card.schemes
    return {
        "parent_model": model.base or "",
        "format": "onnx",
        "family": family,
        "families": [family],
        "parameter_size": "" if card is None else _magnitude(card.parameters),
        "quantization_level": model.variant or next(iter(schemes), ""),
    }


def _family(model: ModelInfo, card: ModelCard | None) -> str:
    """The architecture's bare name, such as llama."""
    if card is None or not card.architecture:
        return model.kind
    return _HEAD.sub("", card.architecture).lower()


def _magnitude(parameters: int) -> str:
    """A number of parameters as Ollama tells it, such as 134.52M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.2f}".rstrip("0").rstrip(".") + unit
    return str(parameters)


def _expiry(model: ModelInfo, usage: UsageReport, now_s: float) -> str:
    """When the model leaves if nobody uses it: its keep-alive after it was last used, as far as
    that is known, and from now on where it is in use."""
    if model.pinned or model.keep_alive_s is None or model.keep_alive_s == FOREVER_S:
        return NEVER
    used = usage.models.get(model.name)
    since_s = now_s if used is None or model.in_use else min(used.last_used_s, now_s)
    return rfc3339(max(since_s + model.keep_alive_s, now_s))
