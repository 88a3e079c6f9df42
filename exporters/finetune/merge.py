"""A base and its adapters as one model folder, taken in fp32.

An adapter that counts with `weight` moves a tensor of the base by `weight` times what it would
change there alone: scale * B A for the matrices of a layer.

The base is read and written file by file, tensor by tensor; only the reference logits at the end
need the whole model in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import ExportError, Refused
from exporters.finetune.adapters import Adapter
from exporters.finetune.cards import merged_card
from exporters.finetune.lineage import (
    Base,
    MergedAdapter,
    MergedLineage,
    base_of,
    write_lineage,
)
from exporters.finetune.reference_logits import write_reference_logits
from exporters.finetune.skeleton import Skeleton
from exporters.model.files import read_safetensors_header
from exporters.model.lora import Part, Role
from exporters.model.lora_config import Start
from exporters.model.source import INDEX_FILE, Source
from exporters.model.vision_lm import VisionSource
from exporters.outputs import check_replaceable, is_finished, output_directory, stage_key
from nsedge.bundle.files import sha256_of

STAGE = "merge"
AS_BASE = "base"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CARRIED = (
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICEN[SC]E*",
    "NOTICE*",
    "COPYING*",
)
"""What goes over as it is."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to merge. `dtype` is a key of `DTYPES`, or `AS_BASE`."""

    source: Source
    adapters: tuple[Adapter, ...]
    dtype: str = AS_BASE
    other_base: bool = False
    """Whether an adapter may come from a base with other weights; shapes must fit all the same."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of an order; `changed` counts the weights that an adapter touched."""

    folder: Path
    made: bool
    base: Base
    adapters: tuple[Adapter, ...]
    changed: int
    untied: bool


@dataclass(frozen=True, kw_only=True)
class _Change:
    adapter: Adapter
    part: Part
    turned: bool


_Plan = dict[str, list[_Change]]
"""Changes by the name of the tensor that they go to."""


def merge(order: Order, out: Path, *, cache: Cache, replace: bool = False) -> Report:
    """Write the merged model to `out`, with its lineage and its reference logits.

    Raises:
        Refused: an adapter is of another base or of a kind that cannot be merged.
        ExportError: a file is damaged, a weight is not finite, or `out` is another thing.
    """
    check_replaceable(out, STAGE, replace=replace)
    order.source.check()
    base = base_of(order.source)
    skeleton = Skeleton.of(order.source, _replication(order.adapters))
    for adapter in order.adapters:
        if not order.other_base:
            adapter.check_base(base)
    plan = _plan(order.adapters, skeleton)
    untied = skeleton.tied and not plan.keys().isdisjoint(skeleton.ends)
    key = _key(order, base)
    made = not is_finished(out, STAGE, key)
    if made:
        with output_directory(out, STAGE, key, replace=replace) as building:
            with cache.progress.step(f"Merging {len(order.adapters)} adapters into {base.origin}"):
                _write_weights(order, plan, skeleton, building, untied=untied)
                _write_rest(order, base, skeleton, building, untied=untied)
            with cache.progress.step("Taking reference logits"):
                write_reference_logits(order.source, building)
    return Report(
        folder=out,
        made=made,
        base=base,
        adapters=order.adapters,
        changed=len(plan),
        untied=untied,
    )


def _plan(adapters: tuple[Adapter, ...], skeleton: Skeleton) -> _Plan:
    plan: _Plan = {}
    for adapter in adapters:
        for part in adapter.lora.parts:
            turned = skeleton.check(adapter.name, part)
            change = _Change(adapter=adapter, part=part, turned=turned)
            plan.setdefault(part.target, []).append(change)
    return plan


def _replication(adapters: tuple[Adapter, ...]) -> tuple[tuple[int, int], ...]:
    """The layers that all adapters are for.

    Raises:
        Refused: they differ in that.
    """
    first, *others = adapters
    for other in others:
        if other.lora.config.replication != first.lora.config.replication:
            raise Refused(
                f"adapters {first.name} and {other.name} are for other layers"
                " (layer_replication), so that they cannot be merged together"
            )
    return first.lora.config.replication


def _key(order: Order, base: Base) -> str:
    carried = {path.name: sha256_of(path) for path in _carried(order.source)}
    adapters = [
        [one.name, one.sha256, one.weight, sha256_of(one.lora.config.path)]
        for one in order.adapters
    ]
    return stage_key(
        {
            "base": msgspec.to_builtins(base),
            "config": sha256_of(order.source.folder / "config.json"),
            "carried": carried,
            "adapters": adapters,
            "dtype": order.dtype,
            "code": code_digest(__name__),
            "software": _software(),
        }
    )


def _write_weights(
    order: Order, plan: _Plan, skeleton: Skeleton, out: Path, *, untied: bool
) -> None:
    source = order.source
    stored = {
        name: file
        for file in source.weight_files
        for name in read_safetensors_header(file)
        if name != "__metadata__"
    }
    wanted = skeleton.stored_names(stored, untied=untied)
    weight_map: dict[str, str] = {}
    total = 0
    for file in source.weight_files:
        merged = {}
        for name, origin in wanted.items():
            if stored[origin] == file:
                merged[name] = _merged(file, origin, plan.get(skeleton.name_of(name), []), order)
        _save(merged, out / file.name)
        weight_map |= dict.fromkeys(merged, file.name)
        total += sum(tensor.nbytes for tensor in merged.values())
    if (source.folder / INDEX_FILE).is_file():
        _write_json(
            out / INDEX_FILE,
            {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
        )


def _merged(file: Path, name: str, changes: list[_Change], order: Order) -> torch.Tensor:
    with safe_open(file, "pt") as tensors:
        weight: torch.Tensor = tensors.get_tensor(name)
    if not weight.is_floating_point():
        return weight
    dtype = DTYPES.get(order.dtype, weight.dtype)
    if not changes:
        return _finite(weight.to(dtype), name)
    exact = weight.to(torch.float32)
    total = exact.clone()
    for change in changes:
        total += change.adapter.weight * (_changed(change, exact) - exact)
    return _finite(total.to(dtype), name)


def _changed(change: _Change, base: torch.Tensor) -> torch.Tensor:
    """What one adapter alone makes of a tensor, as peft does."""
    part, tensors = change.part, change.adapter.lora.tensors(change.part)
    if Role.WHOLE in tensors:
        return tensors[Role.WHOLE]
    if Role.ADDED in tensors:
        return base + tensors[Role.ADDED] * part.scale
    weight = tensors.get(Role.BASE, base)
    weight = weight.T if change.turned else weight
    if Role.BASE not in tensors:
        weight = weight - _start(weight, part)
    weight = weight + tensors[Role.SECOND] @ tensors[Role.FIRST] * part.scale
    if Role.MAGNITUDE in tensors:
        lengths = torch.linalg.vector_norm(weight, dim=1)
        weight = (tensors[Role.MAGNITUDE] / lengths)[:, None] * weight
    return weight.T if change.turned else weight


def _start(weight: torch.Tensor, part: Part) -> torch.Tensor:
    """What the base [outputs, inputs] lost when training began, as the matrices have it since."""
    rank = part.rank
    if part.start is Start.PISSA:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        return (left[:, :rank] * values[:rank]) @ right[:rank]
    if part.start is Start.OLORA:
        left, right = torch.linalg.qr(weight)
        return left[:, :rank] @ right[:rank] * part.scale
    return torch.zeros_like(weight)


def _finite(weight: torch.Tensor, name: str) -> torch.Tensor:
    if not torch.isfinite(weight).all():
        raise ExportError(f"{name} is not finite in {str(weight.dtype).removeprefix('torch.')}")
    return weight.contiguous()


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise ExportError(f"{path.name} cannot be written: {error}") from error


def _write_rest(order: Order, base: Base, skeleton: Skeleton, out: Path, *, untied: bool) -> None:
    source = order.source
    for path in _carried(source):
        shutil.copyfile(path, out / path.name)
    whole = source.whole if isinstance(source, VisionSource) else source.config
    config = skeleton.replicated(whole)
    config.pop("_name_or_path", None)
    if untied:
        config["tie_word_embeddings"] = False
        if "text_config" in config:
            config["text_config"] = config["text_config"] | {"tie_word_embeddings": False}
    if order.dtype != AS_BASE:
        config.pop("dtype", None)
        config["torch_dtype"] = order.dtype
    _write_json(out / "config.json", config)
    lineage = MergedLineage(
        base=base,
        adapters=tuple(_merged_adapter(adapter) for adapter in order.adapters),
        dtype=order.dtype,
        software=_software(),
    )
    write_lineage(out, lineage)
    (out / "README.md").write_text(merged_card(source, lineage), encoding="utf-8")


def _merged_adapter(adapter: Adapter) -> MergedAdapter:
    lineage = adapter.lineage
    return MergedAdapter(
        name=adapter.name,
        sha256=adapter.sha256,
        weight=adapter.weight,
        dataset_sha256=None if lineage is None else lineage.dataset.sha256,
    )


def _carried(source: Source) -> Iterator[Path]:
    for path in sorted(source.folder.iterdir()):
        if path.is_file() and any(path.match(pattern) for pattern in CARRIED):
            yield path


def _software() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
