"""Logits that came with a model folder, which the exported graph is held to.

Where weights were merged, PyTorch's logits were written beside them: `ids.N` int64 [n] and
`logits.N` float32 [n, vocab] of each prompt N.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from exporters.errors import ExportError
from exporters.measure.runner import Runner, log_softmax

LOGITS_FILE = "reference-logits.safetensors"
IDS, LOGITS = "ids.", "logits."


def difference_from_recorded(runner: Runner, folder: Path) -> float | None:
    """Greatest difference in log-probability (nats) from what is recorded; None where nothing is.

    A prompt is compared as far as the runner has room.

    Raises:
        ExportError: the file is cut short, or not of this model.
    """
    path = folder / LOGITS_FILE
    if not path.is_file():
        return None
    worst = []
    try:
        with safe_open(path, framework="numpy") as file:
            for name in sorted(name for name in file.keys() if name.startswith(IDS)):  # noqa: SIM118
                ids = file.get_tensor(name)[: runner.capacity]
                logits = file.get_tensor(LOGITS + name.removeprefix(IDS))[: runner.capacity]
                got = runner.log_probs(ids.tolist())
                if got.shape != logits.shape:
                    raise ExportError(
                        f"{path}: {name} has logits {list(logits.shape)}, the model"
                        f" {list(got.shape)}; merge again"
                    )
                worst.append(float(np.abs(got - log_softmax(logits)).max()))
    except SafetensorError as error:
        raise ExportError(f"{path}: {error}; merge again") from error
    if not worst:
        raise ExportError(f"{path} holds no prompt; merge again")
    return max(worst)
