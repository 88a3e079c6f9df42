"""The fp32 graphs of a Whisper folder: built of its weights, and held to PyTorch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from exporters.conditioned.records import ConditionedRecord, graphs_of
from exporters.conditioned.runner import ConditionedRunner
from exporters.errors import ExportError
from exporters.measure.runner import log_softmax
from exporters.model.source import Source
from exporters.model.speech import SpeechShape, read_alignment_heads, read_speech_shape
from exporters.speech.aligner import write_aligner
from exporters.speech.audio import Floats
from exporters.speech.decoder_graph import build_decoder
from exporters.speech.encoder_graph import build_encoder
from exporters.speech.records import ALIGNER_FILE
from exporters.speech.runner import runner_of
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights

MAX_DIFFERENCE = 2e-3
"""Of a log-probability, in nats: fp32 sums in another order."""
MAX_STATES_DIFFERENCE = 5e-3
"""Of the encoder's output, which is of the size of 1."""
SEED = 41
LENGTHS = (23, 9, 31)
PROMPTS = (19, 5, 29)
"""Tokens of rows that are compared, and how many of them are read at once."""


def make_reference(source: Source, out: Path) -> None:
    """Write the fp32 graphs and `ConditionedRecord` to the directory `out`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: the graphs do not compute what PyTorch does.
    """
    shape = read_speech_shape(source)
    with quiet():
        model = load_weights(source, WhisperForConditionalGeneration)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    nodes: Counter[str] = Counter()
    for path, build in zip(graphs_of(out), (build_encoder, build_decoder), strict=True):
        graph = build(shape, weights)
        path.parent.mkdir()
        graph.save(path)
        nodes.update(node.op_type for node in graph.nodes)
    decoder = graphs_of(out)[1]
    write_aligner(decoder, decoder.with_name(ALIGNER_FILE), read_alignment_heads(source, shape))
    runner = runner_of(out, shape)
    states, logits = compare(model, shape, runner)
    if not (states <= MAX_STATES_DIFFERENCE and logits <= MAX_DIFFERENCE):
        raise ExportError(
            f"the exported graphs differ from PyTorch by {states:.2g} in the encoder's output, and"
            f" by {logits:.2g} nats"
        )
    ConditionedRecord(difference=logits, states_difference=states, nodes=dict(nodes)).write(out)


def compare(model: Any, shape: SpeechShape, runner: ConditionedRunner) -> tuple[float, float]:
    """The greatest differences between what `runner` and eager PyTorch make of windows of noise: of
    the encoder's output, and of log-probabilities after tokens of rows of unequal length, each
    about a window of its own."""
    random = np.random.default_rng(SEED)
    size = len(LENGTHS), shape.bins, 2 * shape.frames
    windows = (0.5 * random.standard_normal(size)).astype(np.float32)
    rows = [random.integers(0, shape.vocabulary, length).tolist() for length in LENGTHS]
    heard = [runner.encode(window, row) for row, window in enumerate(windows)]
    with torch.no_grad(), quiet():
        encoded = model.model.encoder(torch.from_numpy(windows)).last_hidden_state
        wanted = [_logits(model, encoded[row : row + 1], ids) for row, ids in enumerate(rows)]
    found = runner.steps(rows, PROMPTS)
    states = np.abs(np.concatenate(heard) - encoded.numpy()).max()
    logits = max(
        float(np.abs(log_softmax(got) - log_softmax(exact[prompt - 1 :])).max())
        for got, exact, prompt in zip(found, wanted, PROMPTS, strict=True)
    )
    return float(states), logits


def _logits(model: Any, states: torch.Tensor, ids: list[int]) -> Floats:
    out = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        decoder_input_ids=torch.tensor([ids]),
    )
    logits: Floats = out.logits[0].numpy()
    return logits
