"""adapter_config.json of a LoRA, as peft writes it: the one list of what is understood.

Every field of peft's LoraConfig is in `FIELDS`: understood, without effect on what an adapter does
once it is trained, or refused with the reason. A field that is not in it is refused where it is on.
Merging and serving beside a base read the same list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from exporters.errors import ExportError, Refused
from exporters.model.files import Json, read_object

CONFIG_FILE = "adapter_config.json"


class Effect(Enum):
    """What a field does to a trained adapter, where that can be merged."""

    UNDERSTOOD = "it is read"
    NONE = "it only concerned training, or where its base came from"


FIELDS: Mapping[str, Effect | str] = {
    **dict.fromkeys(
        (
            *("peft_type", "base_model_name_or_path", "r", "lora_alpha", "rank_pattern"),
            *("alpha_pattern", "use_rslora", "init_lora_weights", "use_dora", "bias", "lora_bias"),
            *("modules_to_save", "layer_replication"),
        ),
        Effect.UNDERSTOOD,
    ),
    **dict.fromkeys(
        (
            *("task_type", "auto_mapping", "peft_version", "revision", "inference_mode"),
            # The tensors tell which layers have matrices, and which ends of a model are tied.
            *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
            *("fan_in_fan_out", "ensure_weight_tying", "lora_dropout"),
            # Each belongs to a way to begin, or to a kind, that is refused by a field of its own.
            *("loftq_config", "eva_config", "corda_config", "lora_ga_config"),
            *("megatron_core", "qalora_group_size", "runtime_config"),
        ),
        Effect.NONE,
    ),
    "alora_invocation_tokens": "it counts only after certain tokens",
    "arrow_config": "it is a router over several adapters",
    "kasa_config": "it cuts its base's smallest singular values",
    "megatron_config": "it is for Megatron's layers",
    "monteclora_config": "it draws its weights at random",
    "target_parameters": "it goes to bare parameters, not to layers",
    "trainable_token_indices": "it replaces rows of the embedding",
    "use_bdlora": "its matrices are block-diagonal",
    "use_qalora": "it is bound to a quantised base",
    "velora_config": "its matrices are of another kind",
}
"""Field -> its effect, or why an adapter that has it on is refused. Source: peft's LoraConfig."""
STARTS_WITHOUT_TRACE = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Ways to begin that leave the base as it is."""
STARTS: Mapping[str, str] = {
    "pissa_niter_": "its base lost what was drawn at random then",
    "corda": "what its base lost then follows from data that is not there",
    "lora_ga": "what its base lost then follows from data that is not there",
    "loftq": "its base was quantised then",
}
"""Ways to begin that change the base, so that the matrices alone do not tell the result."""


class Start(Enum):
    """What was taken out of the base's weights when training began, so as to be learnt."""

    NOTHING = ""
    PISSA = "pissa"
    """The largest singular values (arXiv 2404.02948)."""
    OLORA = "olora"
    """The first columns of Q and rows of R (arXiv 2406.01775)."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """What of adapter_config.json decides what an adapter does."""

    path: Path
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    """By a pattern that a layer's name ends with, as are `alphas`."""
    alphas: Mapping[str, float]
    is_rank_stabilised: bool
    is_dora: bool
    start: Start
    replication: tuple[tuple[int, int], ...]
    """Runs of the base's layers, [begin, end), which together are those of the adapted model."""
    merged_only: Mapping[str, str]
    """Fields that change more than products, and how: such an adapter can be merged only."""
    base: str | None
    """What it calls its base: a folder or a hub id."""
    whole: tuple[str, ...] = ()
    """The last parts of the names of modules that were learnt whole."""

    def rank_of(self, module: str) -> int:
        """The rank of the matrices of a layer."""
        return _by_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """By what their product counts."""
        rank = self.rank_of(module)
        alpha = _by_pattern(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_lora_config(folder: Path) -> LoraConfig:
    """The configuration of the adapter in `folder`.

    Raises:
        ExportError: it is missing or damaged; the field is named.
        Refused: it is of a kind that can be neither merged nor served.
    """
    path = folder / CONFIG_FILE
    try:
        fields = read_object(path)
    except ExportError as error:
        raise ExportError(f"{error}; is {folder} an adapter?") from error
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise Refused(f"{path}: peft_type is {_shown(kind)}; of adapters only LORA can be used")
    _refuse(fields, path)
    read = _Fields(fields, path)
    start = read.start()
    replication = read.replication()
    if replication and start is not Start.NOTHING:
        raise Refused(
            f"{path}: layer_replication with init_lora_weights {start.value}: layers that share"
            " weights have lost them several times"
        )
    return LoraConfig(
        path=path,
        rank=read.rank("r", fields.get("r")),
        alpha=read.number("lora_alpha", fields.get("lora_alpha")),
        ranks={key: read.rank("rank_pattern", x) for key, x in read.patterns("rank_pattern")},
        alphas={key: read.number("alpha_pattern", x) for key, x in read.patterns("alpha_pattern")},
        is_rank_stabilised=read.flag("use_rslora"),
        is_dora=read.flag("use_dora"),
        start=start,
        replication=replication,
        merged_only=read.merged_only(start),
        base=read.text("base_model_name_or_path"),
        whole=tuple(read.names("modules_to_save")),
    )


def _refuse(fields: Json, path: Path) -> None:
    for name, value in fields.items():
        effect = FIELDS.get(name, "what it does is not known here")
        if isinstance(effect, str) and value:
            raise Refused(f"{path}: an adapter with {_shown(name)} cannot be used: {effect}")


class _Fields:
    """Fields of known types, or an error that names the one that is of another."""

    def __init__(self, fields: Json, path: Path) -> None:
        self._fields = fields
        self._path = path

    def number(self, name: str, value: object) -> float:
        """A finite number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._wrong(name, value, "a finite number")
        return number

    def rank(self, name: str, value: object) -> int:
        """A whole number of at least 1."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(name, value, "a whole number of at least 1")
        return value

    def flag(self, name: str) -> bool:
        """True or false, which it is where it is not there."""
        value = self._fields.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(name, value, "true or false")

    def text(self, name: str) -> str | None:
        """A text; None where it is not there, or empty."""
        value = self._fields.get(name)
        if value is None or isinstance(value, str):
            return value or None
        raise self._wrong(name, value, "a text")

    def patterns(self, name: str) -> list[tuple[str, object]]:
        """Values by a regular expression."""
        value = self._fields.get(name)
        if not isinstance(value, dict | None):
            raise self._wrong(name, value, "an object")
        for pattern in value or {}:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ExportError(
                    f"{self._path}: {name}: {_shown(pattern)} is no pattern: {error}"
                ) from error
        return list((value or {}).items())

    def names(self, name: str) -> list[str]:
        """A list of names, which may be empty or not be there."""
        value = self._fields.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, value, "a list of names")
        return value

    def start(self) -> Start:
        """What was taken out of the base when training began."""
        value = self._fields.get("init_lora_weights")
        if value is None or isinstance(value, bool):
            return Start.NOTHING
        if not isinstance(value, str):
            raise self._wrong("init_lora_weights", value, "true, false or a text")
        for prefix, why in STARTS.items():
            if value.startswith(prefix):
                raise Refused(
                    f"{self._path}: init_lora_weights is {_shown(value)}: {why}; convert it with"
                    " peft's save_pretrained(path_initial_model_for_weight_conversion=...)"
                )
        if value.lower() in STARTS_WITHOUT_TRACE:
            return Start.NOTHING
        try:
            return Start(value.lower())
        except ValueError:
            raise Refused(
                f"{self._path}: init_lora_weights is {_shown(value)}, which is not known here"
            ) from None

    def replication(self) -> tuple[tuple[int, int], ...]:
        """Pairs of layer numbers."""
        value = self._fields.get("layer_replication") or []
        if not isinstance(value, list) or not all(map(_is_run, value)):
            raise self._wrong("layer_replication", value, "a list of [begin, end)")
        return tuple((begin, end) for begin, end in value)

    def merged_only(self, start: Start) -> dict[str, str]:
        """Fields that are on, and change more than products."""
        bias = self._fields.get("bias", "none")
        if bias not in ("none", "all", "lora_only"):
            raise self._wrong("bias", bias, "none, all or lora_only")
        told = {
            "use_dora": (self.flag("use_dora"), "it scales whole rows of the base's weights"),
            "bias": (bias != "none", "it trained biases of the base"),
            "lora_bias": (self.flag("lora_bias"), "it adds biases"),
            "modules_to_save": (
                bool(self.names("modules_to_save")),
                "it replaces whole modules of the base",
            ),
            "layer_replication": (bool(self.replication()), "it repeats layers of the base"),
            "init_lora_weights": (
                start is not Start.NOTHING,
                f"it began as {start.value}, which changes the base",
            ),
        }
        return {name: why for name, (is_on, why) in told.items() if is_on}

    def _wrong(self, name: str, value: object, wanted: str) -> ExportError:
        if name not in self._fields:
            return ExportError(f"{self._path}: no {name}")
        return ExportError(f"{self._path}: {name} is {_shown(value)}, not {wanted}")


def _is_run(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(type(each) is int for each in value) and 0 <= value[0] < value[1]


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """As peft finds it: the first pattern that the end of the name matches."""
    for pattern, value in patterns.items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _shown(value: object) -> str:
    """A value in a message, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
