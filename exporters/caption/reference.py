"""The fp32 graphs of a captioner's folder: built of its weights, and held to PyTorch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import VisionEncoderDecoderModel
from transformers.modeling_outputs import BaseModelOutput

from exporters.caption.graphs import PROJECTION, as_linear, build_decoder, build_encoder
from exporters.caption.records import runner_of
from exporters.caption.trial import pixels_of
from exporters.conditioned.records import ConditionedRecord, graphs_of
from exporters.conditioned.runner import ConditionedRunner, Floats
from exporters.errors import ExportError
from exporters.measure.runner import log_softmax
from exporters.model.caption import CaptionShape, read_caption_shape
from exporters.model.source import Source
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights

MAX_DIFFERENCE = 1e-3
"""Of a log-probability, in nats: fp32 sums in another order."""
MAX_STATES_DIFFERENCE = 1e-3
"""Of the encoder's output, which is of the size of 1."""
SEED = 43
LENGTHS = (13, 6, 16)
PROMPTS = (7, 1, 12)
"""Tokens of rows that are compared, and how many of them are read at once."""
PATTERNS = (100, 101, 102)
MADE_OF_NOTHING = (
    *(".attn.bias", ".attn.masked_bias", ".crossattention.bias", ".crossattention.masked_bias"),
    "decoder.lm_head.weight",
)
"""Ends of names in old files that hold masks, or the table a second time."""


def make_reference(source: Source, out: Path) -> None:
    """Write the fp32 graphs and `ConditionedRecord` to the directory `out`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: the graphs do not compute what PyTorch does.
    """
    shape = read_caption_shape(source)
    with quiet():
        model = load_weights(source, VisionEncoderDecoderModel, matters=_matters)
    weights = as_linear({name: one.detach().numpy() for name, one in model.state_dict().items()})
    nodes: Counter[str] = Counter()
    for path, build in zip(graphs_of(out), (build_encoder, build_decoder), strict=True):
        graph = build(shape, weights)
        path.parent.mkdir()
        graph.save(path)
        nodes.update(node.op_type for node in graph.nodes)
    states, logits = compare(model, shape, runner_of(out, shape.decoder))
    if not (states <= MAX_STATES_DIFFERENCE and logits <= MAX_DIFFERENCE):
        raise ExportError(
            f"the exported graphs differ from PyTorch by {states:.2g} in the encoder's output, and"
            f" by {logits:.2g} nats"
        )
    ConditionedRecord(difference=logits, states_difference=states, nodes=dict(nodes)).write(out)


def _matters(weight: str) -> bool:
    """Whether a weight has a part in it: the encoder's pooling, and masks, have none."""
    return not (weight.startswith("encoder.pooler.") or weight.endswith(MADE_OF_NOTHING))


def compare(model: Any, shape: CaptionShape, runner: ConditionedRunner) -> tuple[float, float]:
    """The greatest differences between what `runner` and eager PyTorch make of patterns: of the
    encoder's output, and of log-probabilities after tokens of rows of unequal length, each about a
    picture of its own."""
    random = np.random.default_rng(SEED)
    pixels = [pixels_of(number, shape.steps) for number in PATTERNS]
    most = shape.decoder.positions
    rows = [random.integers(0, shape.decoder.vocabulary, min(most, n)).tolist() for n in LENGTHS]
    prompts = [min(most - 1, n) for n in PROMPTS]
    seen = [runner.encode(one, row) for row, one in enumerate(pixels)]
    with torch.no_grad(), quiet():
        encoded = states_of(model, np.stack(pixels))
        wanted = [_logits(model, encoded[row : row + 1], ids) for row, ids in enumerate(rows)]
    found = runner.steps(rows, prompts)
    projected = encoded if not shape.projects else getattr(model, PROJECTION)(encoded)
    states = np.abs(np.concatenate(seen) - projected.detach().numpy()).max()
    logits = max(
        float(np.abs(log_softmax(got) - log_softmax(exact[prompt - 1 :])).max())
        for got, exact, prompt in zip(found, wanted, prompts, strict=True)
    )
    return float(states), logits


def states_of(model: Any, pixels: Floats) -> torch.Tensor:
    """What PyTorch's encoder makes of pictures, before it is brought to the decoder's width."""
    states: torch.Tensor = model.encoder(torch.from_numpy(pixels)).last_hidden_state
    return states


def _logits(model: Any, states: torch.Tensor, ids: list[int]) -> Floats:
    out = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        decoder_input_ids=torch.tensor([ids]),
    )
    logits: Floats = out.logits[0].numpy()
    return logits
