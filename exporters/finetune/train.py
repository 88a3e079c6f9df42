"""From a base model and a dataset to a LoRA adapter in peft's own format, with what is learnt whole
beside it."""

from __future__ import annotations

import dataclasses
import json
import resource
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import peft
import torch
from peft.utils import get_peft_model_state_dict
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors import SafetensorError
from safetensors.torch import save_file

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import ExportError
from exporters.finetune.batches import Tokenised, check_ids, tokenise
from exporters.finetune.cards import adapter_card
from exporters.finetune.checkpoints import CHECKPOINT_FILE, read_checkpoint
from exporters.finetune.classes import model_class
from exporters.finetune.curve import Curve, read_curve, write_curve
from exporters.finetune.device import Place, threads_free
from exporters.finetune.examples import read_examples, validation_path
from exporters.finetune.lineage import (
    AdapterLineage,
    Base,
    Dataset,
    base_of,
    read_adapter_lineage,
    write_lineage,
)
from exporters.finetune.loop import Training, trained_parameters
from exporters.finetune.pixels import Pixels
from exporters.finetune.settings import Settings, fitted
from exporters.finetune.targets import learnt_of
from exporters.model.lora import WEIGHTS_FILE
from exporters.model.lora_config import CONFIG_FILE
from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource
from exporters.outputs import check_replaceable, is_finished, output_directory, stage_key
from exporters.trace.quiet import quiet
from nsedge.bundle.files import sha256_of
from nsedge.runtime.machine.cores import CpuMeter

STAGE = "train"
UNFINISHED = "training"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to train. `threads` None: as many as there are cores really free.

    The settings in `free`, of those in `FITTED`, are chosen for the number of examples.
    """

    source: Source
    dataset: Path
    settings: Settings
    place: Place
    free: frozenset[str] = frozenset()
    threads: int | None = None
    checkpoint_every: int | None = None
    """Steps; None: by time."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What only the process that trained can tell."""

    threads: int
    resumed_at: int
    """The step after which it went on; 0 from the beginning."""
    cut: int
    dropped: int
    learnt_tokens: int
    trained_parameters: int
    learnt_s: float
    peak_bytes: int
    """Of resident memory."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of an order; `facts` is None where the result was there already."""

    adapter: Path
    lineage: AdapterLineage
    curve: Curve
    facts: Facts | None


def train(order: Order, out: Path, *, cache: Cache, replace: bool = False) -> Report:
    """Train, and write the adapter, its lineage and the loss curve to `out`.

    A run that was broken off goes on from its last checkpoint, to the same bits.

    Raises:
        ExportError: something is wrong with base, dataset or settings; training diverges; or `out`
            is taken by another thing.
    """
    check_replaceable(out, STAGE, replace=replace)
    order.source.check()
    training, validation = _tokenised(order)
    settings = fitted(order.settings, len(training.examples), order.free)
    order = dataclasses.replace(order, settings=settings, free=frozenset())
    base, dataset = base_of(order.source), _dataset(order.dataset, training, validation)
    key = _key(order, base, dataset)
    lineage = read_adapter_lineage(out)
    if lineage is not None and is_finished(out, STAGE, key):
        return Report(adapter=out, lineage=lineage, curve=read_curve(out), facts=None)
    with cache.unfinished(UNFINISHED, key) as work:
        run, model, facts = _run(order, training, validation, work=work, cache=cache)
        lineage = _lineage(order, model, run.curve, base=base, dataset=dataset)
        with output_directory(out, STAGE, key, replace=replace) as building:
            _write(building, model, run.curve, lineage)
        (work / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Report(adapter=out, lineage=lineage, curve=run.curve, facts=facts)


def _run(
    order: Order, training: Tokenised, validation: Tokenised, *, work: Path, cache: Cache
) -> tuple[Training, Any, Facts]:
    checkpoint = read_checkpoint(work)
    see = _eyes(order, training, validation)
    meter = CpuMeter()
    with cache.progress.step(f"Loading {order.source.origin}"):
        model = _adapted_model(order)
    before = None if checkpoint is None else checkpoint.threads
    threads = order.threads or before or threads_free(meter)
    torch.set_num_threads(threads)
    run = Training(
        model,
        settings=order.settings,
        place=order.place,
        training=training,
        validation=validation,
        threads=threads,
        see=see,
    )
    cache.progress.note(f"Training on {order.place.told()}; threads on the CPU: {threads}")
    if checkpoint is not None:
        run.resume(checkpoint)
        cache.progress.note(f"Going on after step {run.curve.step}, from {work}")
    resumed_at = run.curve.step
    run.run(work, cache.progress, checkpoint_every=order.checkpoint_every)
    facts = Facts(
        threads=threads,
        resumed_at=resumed_at,
        cut=training.cut + validation.cut,
        dropped=training.dropped + validation.dropped,
        learnt_tokens=training.learnt,
        trained_parameters=trained_parameters(model),
        learnt_s=run.learnt_s,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    return run, model, facts


def _eyes(order: Order, *parts: Tokenised) -> Pixels | None:
    """What reads the pictures of the dataset, which are all there; None for a base without eyes.

    Raises:
        ExportError: a picture is not there, or the base sees none.
    """
    pictures = [one for part in parts for example in part.examples for one in example.pictures]
    if not isinstance(order.source, VisionSource):
        if pictures:
            raise ExportError(
                f"{order.dataset} shows pictures, and {order.source.origin} sees none"
            )
        return None
    eyes = Pixels(order.source, order.dataset.parent)
    eyes.check(pictures)
    return eyes


def _tokenised(order: Order) -> tuple[Tokenised, Tokenised]:
    source = order.source
    control = source.text_reader().control_tokens()
    token = source.prompt().token_id if isinstance(source, VisionSource) else None
    most = order.settings.max_tokens
    training = tokenise(read_examples(order.dataset), control, max_tokens=most, picture_token=token)
    if not training.examples:
        raise ExportError(
            f"{order.dataset}: nothing to learn within --max-tokens {most}"
            f" ({training.dropped} examples dropped)"
        )
    aside = validation_path(order.dataset)
    held_back = read_examples(aside) if aside.is_file() else ()
    validation = tokenise(held_back, control, max_tokens=most, picture_token=token)
    if (vocabulary := source.config.get("vocab_size")) is not None:
        for tokenised in (training, validation):
            check_ids(tokenised, int(vocabulary))
    return training, validation


def _dataset(path: Path, training: Tokenised, validation: Tokenised) -> Dataset:
    aside = validation_path(path)
    return Dataset(
        sha256=sha256_of(path),
        examples=len(training.examples),
        validation_sha256=sha256_of(aside) if aside.is_file() else None,
        validation_examples=len(validation.examples),
    )


def _key(order: Order, base: Base, dataset: Dataset) -> str:
    return stage_key(
        {
            "config": sha256_of(order.source.folder / "config.json"),
            "base": msgspec.to_builtins(base),
            "dataset": msgspec.to_builtins(dataset),
            "settings": msgspec.to_builtins(order.settings),
            "device": order.place.device,
            "precision": order.place.precision.value,
            "code": code_digest(__name__),
            "software": _software(),
        }
    )


def _adapted_model(order: Order) -> Any:
    """The base with a fresh adapter, its weights drawn from the seed; on its device."""
    settings = order.settings
    with quiet():
        model = model_class(order.source).from_pretrained(
            order.source.folder,
            dtype=order.place.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        learnt = learnt_of(model, settings.targets, settings.whole)
        config = peft.LoraConfig(
            task_type=peft.TaskType.CAUSAL_LM,
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(learnt.targets) or DUMMY_TARGET_MODULES,
            exclude_modules=learnt.left_out if learnt.targets else None,
            modules_to_save=list(learnt.whole) or None,
            fan_in_fan_out=learnt.input_first,
        )
        torch.manual_seed(settings.seed)
        adapted = peft.get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # what is learnt whole has the base's type at first
            parameter.data = parameter.data.float()
    if settings.checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
    return adapted.to(order.place.device)


def _lineage(
    order: Order, model: Any, curve: Curve, *, base: Base, dataset: Dataset
) -> AdapterLineage:
    config = model.peft_config["default"]
    is_adapted = config.target_modules != DUMMY_TARGET_MODULES
    targets = tuple(sorted(config.target_modules)) if is_adapted else ()
    whole = tuple(sorted(config.modules_to_save or ()))
    best = curve.best()
    return AdapterLineage(
        base=base,
        dataset=dataset,
        settings=msgspec.structs.replace(order.settings, targets=targets, whole=whole),
        device=order.place.device,
        precision=order.place.precision.value,
        steps=curve.step,
        best_step=curve.step if best is None else best.step,
        validation_loss=None if best is None else best.loss,
        software=_software(),
    )


def _software() -> dict[str, str]:
    return {name: version(name) for name in ("peft", "torch", "transformers")}


def _write(folder: Path, model: Any, curve: Curve, lineage: AdapterLineage) -> None:
    config = model.peft_config["default"].to_dict()
    config |= {
        "base_model_name_or_path": lineage.base.origin,
        "revision": lineage.base.revision,
        "target_modules": lineage.settings.targets or DUMMY_TARGET_MODULES,
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    flat = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(flat, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    except SafetensorError as error:
        raise ExportError(f"{WEIGHTS_FILE} cannot be written: {error}") from error
    write_lineage(folder, lineage)
    write_curve(curve, folder)
    (folder / "README.md").write_text(adapter_card(lineage), encoding="utf-8")
