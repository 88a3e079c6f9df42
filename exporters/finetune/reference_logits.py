"""What PyTorch makes of the golden prompts, for later stages to hold their graphs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from exporters.errors import ExportError
from exporters.finetune.classes import model_class
from exporters.model.source import Source
from exporters.model.texts import golden_texts
from exporters.trace.quiet import quiet

REFERENCE_FILE = "reference-logits.safetensors"


def write_reference_logits(source: Source, folder: Path) -> None:
    """Run the model in `folder`, in fp32, over the golden prompts of `source`'s tokenizer.

    Tensors `ids.N` int64 [n] and `logits.N` float32 [n, vocabulary], N from 0.

    Raises:
        ExportError: the folder lacks weights, or the model's logits are not finite.
    """
    model = _loaded(folder, model_class(source))
    reader = source.text_reader()
    most = int(model.config.get_text_config().max_position_embeddings)
    tensors: dict[str, torch.Tensor] = {}
    for number, text in enumerate(golden_texts(reader)):
        ids = torch.tensor(reader.encode(text)[:most])
        with torch.no_grad(), quiet():
            logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
        if not torch.isfinite(logits).all():
            raise ExportError(f"the logits of golden prompt {number + 1} are not finite")
        tensors |= {f"ids.{number}": ids, f"logits.{number}": logits.contiguous()}
    try:
        save_file(tensors, folder / REFERENCE_FILE)
    except SafetensorError as error:
        raise ExportError(f"{REFERENCE_FILE} cannot be written: {error}") from error


def _loaded(folder: Path, kind: Any) -> Any:
    with quiet():
        model, told = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if told["missing_keys"]:
        raise ExportError(f"weights are missing: {', '.join(sorted(told['missing_keys'])[:5])}")
    return model.eval()
