"""Captioners whose weights are pickled, as old ones on the hub are, turned into model folders.

PyTorch's own reader is held to tensors: whatever else a pickle asks for is refused, and not run.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import Refused
from exporters.model.hub import fetch_files
from exporters.model.source import INDEX_FILE, Source
from nsedge.bundle.files import sha256_of

PICKLED = "pytorch_model.bin"
WEIGHTS = "model.safetensors"


def with_weights(source: Source, cache: Cache) -> Source:
    """The same model with its weights as safetensors, made if it is not in the cache; `source`
    itself where it has them, or has none.

    Raises:
        Refused: the pickle holds something else than tensors.
        ExportError: the hub does not give it.
    """
    if any((source.folder / name).is_file() for name in (WEIGHTS, INDEX_FILE)):
        return source
    pickled = source.folder / PICKLED
    if not pickled.is_file() and source.revision is not None:
        pickled = fetch_files(source.origin, source.revision, [PICKLED]) / PICKLED
    if not pickled.is_file():
        return source
    inputs = {"weights": sha256_of(pickled), "code": code_digest(__name__)}

    def make(folder: Path) -> None:
        for file in source.folder.iterdir():
            if file.is_file() and file.name != PICKLED:
                shutil.copyfile(file, folder / file.name)
        _write_safetensors(pickled, folder / WEIGHTS)

    title = f"Turning {source.origin}'s weights into safetensors"
    return replace(source, folder=cache.get("model", inputs, title=title, make=make))


def _write_safetensors(pickled: Path, target: Path) -> None:
    import torch  # only where there is something to turn
    from safetensors.torch import save_file

    try:
        loaded = torch.load(pickled, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle's own, of any type
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"{pickled}: it cannot be read as tensors alone: {reason}") from error
    if not isinstance(loaded, dict):
        raise Refused(f"{pickled}: it holds no weights by their names")
    tensors = {
        str(name): one.contiguous().clone()
        for name, one in loaded.items()
        if isinstance(one, torch.Tensor)
    }
    save_file(tensors, target, metadata={"format": "pt"})
