"""Encoders with heads: graphs give what PyTorch gives, folders become bundles that verify, and a
daemon answers what transformers' pipelines answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import pipeline
from transformers.pipelines.token_classification import AggregationStrategy

from exporters.__main__ import main
from exporters.deploy.trial_scores import try_out_scores
from exporters.encoder.records import EncoderRecord, HeadSpec
from exporters.encoder.reference import MAX_DIFFERENCE, make_reference
from exporters.errors import Refused
from exporters.model.heads import read_head
from exporters.model.source import Source
from nsedge.api import Activation, Aggregation
from nsedge.bundle.headed import HeadedEncoder, MaskedLm, SequenceClassification
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid, InvalidParameter, UnsupportedTask
from nsedge.ipc.client import Client
from nsedge.runtime.text.segments import SegmentReader
from nsedge.runtime.text.spans import SpanFinder
from tests.export.tiny_encoders import MODELS
from tests.export.tiny_heads import HEADS, LABELS, make_head, word_pieces, write_head_folder
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home, restate

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

TEXT = "Marta Harbourville lives in Newtown and works for Acme unknownly."
PAIR = ("where is marta", "marta lives in the north harbour")
DOCUMENTS = ["marta works", "the town is new", "acme is in the harbour and the town", "a"]
SIZES = {"BioBERT": 28_996, "SciBERT": 31_090, "Legal-BERT": 30_522, "FinBERT": 30_873}
"""Vocabularies of checkpoints of BERT's kind."""


def reference(folder: Path, out: Path) -> EncoderRecord:
    out.mkdir()
    make_reference(Source(folder=folder, origin="tiny"), out, max_context=None)
    return EncoderRecord.read(out)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", MODELS)
def test_a_head_of_a_family_is_within_1e_4_of_torch(family: str, head: str, tmp_path: Path) -> None:
    folder = write_head_folder(tmp_path / "model", family, head)
    record = reference(folder, tmp_path / "out")
    assert record.difference < MAX_DIFFERENCE
    assert isinstance(record.gives, HeadSpec)
    kinds = MODELS[family][2].get("type_vocab_size", 2) > 1 and head == HEADS[1]
    kinds = kinds and family not in ("distilbert", "mpnet", "modernbert")
    assert (record.gives.io.token_type_ids is not None) is kinds
    assert (record.gives.io.places is not None) is (head == HEADS[0])


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_random_weights_with_a_real_vocabulary_are_within_1e_4(size: int, tmp_path: Path) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", "MaskedLM", vocab_size=size)
    record = reference(folder, tmp_path / "out")
    assert record.vocab_size == size
    assert record.difference < MAX_DIFFERENCE


@contextmanager
def served(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[Client, str]]:
    """A client of a daemon that serves the folder's fp32 graph; and the model's name."""
    with short_directory() as place:
        home = Home(place)
        out = ("--out", str(tmp_path / "bundle"), "--scheme", "fp32")
        path = answer(capsys, "model", str(folder), "--name", "tiny", *out)["bundle"]
        there = ("--to", home.endpoint, "--store", str(home.store))
        with home.serving():
            told = answer(capsys, "deploy", path, "--as", "prod", *there)
            assert told["golden"]["greatest_error"] < 1e-3
            with Client(home.endpoint) as client:
                yield client, told["model"]


def test_texts_are_labelled_as_the_pipeline_labels_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {0: "sad", 1: "glad", 2: "neither"}
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[1], id2label=labels)
    judge = pipeline("text-classification", model=str(folder))

    def wanted(given: Any, **more: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = judge([given], top_k=None, **more)[0]
        return found

    with served(folder, tmp_path, capsys) as (client, model):
        (info,) = [one for one in client.models() if one.name == model]
        assert (info.tasks, info.labels) == (("classify",), ("sad", "glad", "neither"))
        found = client.classify(model, [TEXT, PAIR]).collected().labels
        pair = {"text": PAIR[0], "text_pair": PAIR[1]}
        for one, told in zip(found, (wanted(TEXT), wanted(pair)), strict=True):
            assert [label.label for label in one] == [label["label"] for label in told]
            near = pytest.approx([label["score"] for label in told], abs=1e-5)
            assert [label.score for label in one] == near
        (best,) = client.classify(model, TEXT, top_k=1).collected().labels
        assert best == found[0][:1]
        logits = client.classify(model, TEXT, activation=Activation.NONE).collected().labels[0]
        raw = wanted(TEXT, function_to_apply="none")
        assert [one.score for one in logits] == pytest.approx([r["score"] for r in raw], abs=1e-4)
        with pytest.raises(InvalidParameter, match="aggregation is for models that label tokens"):
            client.classify(model, TEXT, aggregation=Aggregation.MAX).collected()
        with pytest.raises(UnsupportedTask):
            client.score(model, "q", ["d"]).collected()


def test_documents_are_scored_as_by_a_cross_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[1], id2label={0: "LABEL_0"})
    wanted = pipeline("text-classification", model=str(folder), function_to_apply="sigmoid")
    with served(folder, tmp_path, capsys) as (client, model):
        scores = client.score(model, PAIR[0], DOCUMENTS).collected().scores
    pairs = [{"text": PAIR[0], "text_pair": one} for one in DOCUMENTS]
    told = [wanted(pair)["score"] for pair in pairs]
    assert scores == pytest.approx(told, abs=1e-5)
    assert len(set(scores)) == len(DOCUMENTS)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_masks_are_filled_as_the_pipeline_fills_them(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", family, HEADS[0])
    wanted = pipeline("fill-mask", model=str(folder), top_k=4)
    texts = ["marta lives in [MASK]ville", "[MASK] works for the [MASK] town"]
    with served(folder, tmp_path, capsys) as (client, model):
        (info,) = [one for one in client.models() if one.name == model]
        assert (info.mask, info.head) == ("[MASK]", "masked-lm")
        found = client.fill(model, texts, top_k=4).collected().masks
        for masks, told in zip(found, ([wanted(texts[0])], wanted(texts[1])), strict=True):
            assert len(masks) == len(told)
            for tokens, rows in zip(masks, told, strict=True):
                assert [one.token_id for one in tokens] == [row["token"] for row in rows]
                near = pytest.approx([row["score"] for row in rows], abs=1e-5)
                assert [one.score for one in tokens] == near
                assert [one.token for one in tokens] == [row["token_str"] for row in rows]
        with pytest.raises(InvalidParameter, match=r"input 0 holds no masks; .* written \[MASK\]"):
            client.fill(model, ["nothing, not even [SEP]"]).collected()


@pytest.mark.parametrize("aggregation", Aggregation)
def test_spans_are_joined_as_the_pipeline_joins_them(
    aggregation: Aggregation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[2], id2label=LABELS)
    kind = "none" if aggregation is Aggregation.NONE else aggregation.value
    wanted = pipeline("token-classification", model=str(folder), aggregation_strategy=kind)
    with served(folder, tmp_path, capsys) as (client, model):
        (found,) = client.classify(model, TEXT, aggregation=aggregation).collected().labels
    told = wanted(TEXT)
    assert len(found) == len(told) > 2
    for one, row in zip(found, told, strict=True):
        assert one.label == row.get("entity_group", row.get("entity"))
        assert (one.word, one.start, one.end) == (row["word"], row["start"], row["end"])
        assert one.score == pytest.approx(float(row["score"]), abs=1e-5)
        assert one.index == row.get("index")


@pytest.mark.parametrize("head", HEADS)
def test_a_folder_becomes_a_bundle_that_verifies(
    head: str, places: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = write_head_folder(tmp_path / head, "bert", head, id2label=LABELS)
    loose = ("--threshold", "score_top1=0.5", "--threshold", "score_error=0.5")
    made = answer(capsys, "model", str(folder), *loose)
    bundle = Bundle.open(Path(made["bundle"])).of_kind(HeadedEncoder)
    manifest = bundle.manifest
    assert manifest.provenance.licence == "MIT"
    assert [variant.scheme for variant in manifest.variants][-1] == "fp32"
    assert all(variant.fidelity is not None for variant in manifest.variants)
    verdict = answer(capsys, "verify", made["bundle"], "--report", str(tmp_path / "report"))
    assert verdict["passed"] is True
    for name, check in verdict["variants"].items():
        assert check["fidelity_measured"] == check["fidelity_recorded"]
        assert check["fidelity_recorded"]["rows"] >= check["fidelity_recorded"]["texts"] >= 50
        if name == "cpu-fp32":
            assert check["golden_error"] < 1e-4
            assert check["fidelity_recorded"]["top1"] == 1.0
    page = (tmp_path / "report" / "report.md").read_text()
    assert "| Variant | score_top1 | score_error | score_error_most | texts | golden |" in page


def test_a_daemon_refuses_scores_that_are_not_those_of_fp32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[1], id2label=LABELS)
    with served(folder, tmp_path, capsys) as (client, model):
        spoilt = Path(shutil.copytree(tmp_path / "bundle", tmp_path / "spoilt"))
        golden = json.loads((spoilt / "golden.json").read_text())
        golden[0]["rows"][0]["scores"][0] -= 0.5
        (spoilt / "golden.json").write_text(json.dumps(golden))
        restate(spoilt)
        (info,) = (one for one in client.models() if one.name == model)
        with pytest.raises(BundleInvalid, match=r"scores that differ by 0\.5"):
            try_out_scores(client, Bundle.open(spoilt).of_kind(HeadedEncoder), info)


@pytest.mark.parametrize(
    ("settings", "activation"),
    [
        ({}, Activation.SIGMOID),
        ({"problem_type": "regression"}, Activation.NONE),
        ({"id2label": {0: "a", 1: "b"}}, Activation.SOFTMAX),
        (
            {"id2label": {0: "a", 1: "b"}, "problem_type": "multi_label_classification"},
            Activation.SIGMOID,
        ),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            Activation.NONE,
        ),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
            Activation.SIGMOID,
        ),
    ],
)
def test_how_scores_are_made_is_read_from_the_settings(
    settings: dict[str, Any], activation: Activation, tmp_path: Path
) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {0: "x"}, **settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    head = read_head(Source(folder=tmp_path, origin="x"))
    assert isinstance(head, SequenceClassification)
    assert head.activation is activation


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label has no name for 1"),
        ({"id2label": {"0": "a\nb"}}, "id2label has no name for 0"),
        ({"id2label": []}, "id2label must tell labels by their numbers"),
        ({"sbert_ce_default_activation_function": "own.Thing"}, "the activation 'own.Thing'"),
    ],
)
def test_what_a_head_does_not_tell_is_refused(
    settings: dict[str, Any], told: str, tmp_path: Path
) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {0: "x"}, **settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match=told):
        read_head(Source(folder=tmp_path, origin="x"))


def test_a_masked_lm_without_its_mask_is_refused(tmp_path: Path) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[0])
    source = Source(folder=folder, origin="x")
    assert read_head(source) == MaskedLm(mask="[MASK]", mask_token_id=4)
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(Refused, match="no mask_token"):
        read_head(Source(folder=folder, origin="x"))


def test_a_vocabulary_in_lines_is_read_as_transformers_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", "bert", HEADS[0])
    vocabulary = word_pieces(216).get_vocab()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    made = answer(capsys, "model", str(folder), "--scheme", "fp32", "--out", str(tmp_path / "out"))
    theirs = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    ours = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(made["bundle"]) / "tokenizer.json")
    )
    for text in (TEXT, "Ünknown, new-town!", "[MASK] and [SEP]"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    pair = ours(*PAIR), theirs(*PAIR)
    assert pair[0]["token_type_ids"] == pair[1]["token_type_ids"]


@pytest.mark.parametrize("family", ["mpnet", "electra", "deberta-v2", "modernbert"])
@pytest.mark.parametrize("scheme", ["w8a8", "int8-b64"])
def test_families_in_8_bits_are_near_to_fp32(
    family: str, scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_head_folder(tmp_path / "model", family, HEADS[1], id2label=LABELS)
    where = ("--scheme", scheme, "--out", str(tmp_path / "out"))
    (made,) = answer(capsys, "model", str(folder), *where)["variants"].values()
    assert made["fidelity"]["top1"] >= 0.95
    assert made["fidelity"]["error"] <= 0.01
    assert answer(capsys, "verify", str(tmp_path / "out"))["passed"] is True


def test_spans_of_words_that_are_not_marked_are_joined_alike(tmp_path: Path) -> None:
    text = "Marta Harbourville, of New-Town, works for Acme: unknownly! Übermorgen, too."
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False
    )
    made.train_from_iterator([text, "Marta works for a town"], trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    model = make_head("roberta", HEADS[2], id2label=LABELS, vocab_size=made.get_vocab_size())
    pipe = transformers.TokenClassificationPipeline(model=model, tokenizer=fast)
    (asked,) = pipe.preprocess(text, is_split_into_words=False)
    tokens = asked["input_ids"].shape[1]
    logits = np.random.default_rng(5).normal(0, 2, (tokens, len(LABELS))).astype(np.float32)
    (reading,) = SegmentReader(Tokenizer.from_str(made.to_str()), context_length=tokens + 2).read(
        [text], truncate=False
    )
    assert list(reading.ids) == asked["input_ids"][0].tolist()
    finder = SpanFinder(made, labels=tuple(LABELS.values()), outside="O", unknown="<unk>")
    for aggregation in Aggregation:
        strategy = AggregationStrategy(aggregation.value)
        outputs = [{**asked, "logits": torch.from_numpy(logits)[None]}]
        told = pipe.postprocess(outputs, aggregation_strategy=strategy)
        found = finder.find(text, reading, logits, aggregation)
        assert len(found) == len(told) > 3
        for one, row in zip(found, told, strict=True):
            assert one.label == row.get("entity_group", row.get("entity"))
            assert (one.word, one.start, one.end) == (row["word"], row["start"], row["end"])
            assert one.score == pytest.approx(float(row["score"]), abs=1e-6)
