"""Whisper folders: graphs make what PyTorch makes, and become bundles that the daemon opens."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import WhisperFeatureExtractor
from transformers.modeling_outputs import BaseModelOutput

from exporters.__main__ import main
from exporters.conditioned.native import GELU, GELU_ROWS, WINDOW_ATTENTION
from exporters.conditioned.records import ConditionedRecord
from exporters.errors import Refused
from exporters.measure.runner import log_softmax
from exporters.model.source import Source
from exporters.model.speech import read_alignment_heads, read_speech_shape, read_tokens
from exporters.quantise.schemes import SCHEMES
from exporters.speech.audio import mel_filters
from exporters.speech.reference import make_reference
from exporters.speech.runner import runner_of
from exporters.speech.variant import write_variant
from nsedge import native
from tests.export.tiny_whisper import LANGUAGES, make_whisper, tokenizer, write_whisper_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

NATIVE = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = write_whisper_folder(tmp_path_factory.mktemp("models") / "tiny")
    return Source(folder=folder, origin="tiny")


@pytest.fixture(scope="module")
def reference(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    make_reference(source, out)
    return out


def test_the_graphs_are_within_1e_4_of_torch(source: Source, reference: Path) -> None:
    record = ConditionedRecord.read(reference)
    assert record.states_difference < 1e-4
    assert record.difference < 1e-4


def test_rows_about_other_windows_decode_together_as_torch_does_alone(
    source: Source, reference: Path
) -> None:
    """By hand, and with every token of every row decoded in company."""
    shape, model = read_speech_shape(source), make_whisper()
    runner = runner_of(reference, shape)
    random = np.random.default_rng(3)
    windows = random.standard_normal((3, shape.bins, 3000)).astype(np.float32)
    rows = [random.integers(0, shape.vocabulary, length).tolist() for length in (4, 17, 9)]
    for row in (2, 0, 1):
        runner.encode(windows[row], row)
    found = runner.steps(rows, [1, 1, 1])
    with torch.no_grad():
        states = model.model.encoder(torch.from_numpy(windows)).last_hidden_state
        for row, ids in enumerate(rows):
            encoded = BaseModelOutput(last_hidden_state=states[row : row + 1])
            logits = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids])).logits
            assert np.abs(log_softmax(found[row]) - log_softmax(logits[0].numpy())).max() < 1e-4


@pytest.mark.parametrize("native_form", [False, pytest.param(True, marks=NATIVE)])
def test_a_quantised_form_is_near_fp32(
    source: Source, reference: Path, tmp_path: Path, native_form: bool
) -> None:
    shape = read_speech_shape(source)
    write_variant(source, reference, tmp_path, scheme=SCHEMES["int8-b64"])
    exact = runner_of(reference, shape)
    runner = runner_of(tmp_path, shape, scheme="int8-b64", native=native_form)
    random = np.random.default_rng(4)
    windows = random.standard_normal((2, shape.bins, 3000)).astype(np.float32)
    rows = [random.integers(0, shape.vocabulary, length).tolist() for length in (12, 7)]
    for row, window in enumerate(windows):
        states = exact.encode(window, row)
        near = runner.encode(window, row)
        assert np.corrcoef(states.ravel(), near.ravel())[0, 1] > 0.99
    for wanted, got in zip(exact.steps(rows, [3, 5]), runner.steps(rows, [3, 5]), strict=True):
        kept = np.exp(log_softmax(wanted)) * (log_softmax(wanted) - log_softmax(got))
        assert kept.sum(-1).max() < 0.2


@NATIVE
@pytest.mark.parametrize(("heads", "own"), [(2, True), (4, False)])
def test_heads_of_32_numbers_attend_by_the_daemon_s_own_operator(
    tmp_path: Path, heads: int, own: bool
) -> None:
    folder = write_whisper_folder(tmp_path / "model", encoder_attention_heads=heads)
    source, reference, out = Source(folder=folder, origin="tiny"), tmp_path / "fp32", tmp_path / "q"
    reference.mkdir()
    out.mkdir()
    make_reference(source, reference)
    write_variant(source, reference, out, scheme=SCHEMES["int8-b64"])
    graph = onnx.load(out / "encoder" / "native.onnx", load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds[WINDOW_ATTENTION], kinds["MultiHeadAttention"]) == ((2, 0) if own else (0, 2))
    assert (kinds[GELU_ROWS], kinds[GELU], kinds["ReduceMax"]) == (3, 1, 0)
    shape = read_speech_shape(source)
    window = np.random.default_rng(4).standard_normal((shape.bins, 3000)).astype(np.float32)
    forms = [runner_of(out, shape, scheme="int8-b64", native=native) for native in (False, True)]
    standard, near = (form.encode(window, 0).ravel() for form in forms)
    assert np.corrcoef(standard, near)[0, 1] > 0.999


def test_tokens_are_read_of_configurations(source: Source, tmp_path: Path) -> None:
    shape, known = read_speech_shape(source), tokenizer()
    tokens = read_tokens(source, shape)
    assert tokens.languages == {code: known.token_to_id(f"<|{code}|>") for code in LANGUAGES}
    assert tokens.first_timestamp == known.get_vocab_size()
    assert tokens.suppressed_first == (220, tokens.end)
    assert tokens.no_speech == known.token_to_id("<|nospeech|>")
    assert read_alignment_heads(source, shape) == ((1, 0), (2, 3))
    plain = write_whisper_folder(tmp_path / "en", multilingual=False)
    english = Source(folder=plain, origin="en")
    tokens = read_tokens(english, read_speech_shape(english))
    assert (tokens.languages, tokens.transcribe, tokens.translate) == ({}, None, None)


def test_what_has_no_form_is_refused(source: Source, tmp_path: Path) -> None:
    folder = write_whisper_folder(tmp_path / "odd")
    for change, told in (
        ({"activation_function": "relu"}, "the activation 'relu'"),
        ({"scale_embedding": True}, "scaled embeddings"),
        ({"decoder_attention_heads": 3}, "3 heads of decoder"),
        ({"d_model": 0}, "d_model must be a whole number above 0"),
        ({"architectures": ["WhisperModel"]}, "WhisperModel is no"),
    ):
        config = json.loads((source.folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(Refused, match=told):
            read_speech_shape(Source(folder=folder, origin="odd"))


@pytest.mark.parametrize("bins", [80, 128])
def test_the_mel_filters_are_those_of_transformers(source: Source, bins: int) -> None:
    wanted = WhisperFeatureExtractor(feature_size=bins).mel_filters
    assert np.abs(mel_filters(source, bins).T - wanted).max() < 1e-6


def test_the_folder_exports_in_one_step_alone(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(source.folder), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "is a speech model, whose graphs and bundle are made in one step" in told
    assert "nsedge-export model" in told
