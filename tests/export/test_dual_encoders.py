"""CLIP and SigLIP: graphs make what PyTorch makes, folders become bundles that verify, and a daemon
makes the vector of a photograph that transformers makes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from exporters.__main__ import main
from exporters.dual_encoder.records import DualRecord, session_of
from exporters.dual_encoder.reference import MAX_DIFFERENCE, make_reference
from exporters.errors import Refused
from exporters.model.source import Source
from nsedge.__main__ import main as nsedge
from nsedge.api import Media
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidMedia, InvalidParameter, UnsupportedTask
from nsedge.ipc.client import Client
from tests.export.tiny_dual_encoders import (
    FAMILIES,
    PHOTOGRAPH,
    SIDE,
    VOCABULARY,
    make_dual_encoder,
    write_dual_folder,
)
from tests.export.tiny_encoders import write_encoder_folder, write_json
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

TEXTS = ["a photo of the woman", "a red square", "the green circle of a uniform photo"]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: write_dual_folder(root / f"Tiny-{family}", family) for family in FAMILIES}


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def by_transformers(folder: Path, family: str, images: list[Image.Image]) -> tuple[Floats, Floats]:
    """Vectors of our texts, each alone, and of pictures, by transformers' own processor."""
    model = make_dual_encoder(family)
    kind = "Siglip" if family == "siglip" else "CLIP"
    processor = getattr(transformers, f"{kind}ImageProcessor").from_pretrained(folder)
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        made = model(input_ids=torch.tensor([[3, VOCABULARY - 1]]), pixel_values=pixels)
    return vectors_of(folder, family, TEXTS), made.image_embeds.numpy()


def vectors_of(folder: Path, family: str, texts: list[str]) -> Floats:
    """Vectors of texts, each alone, by transformers' own tokenizer."""
    model = make_dual_encoder(family)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    pixels, told = torch.zeros(1, 3, SIDE, SIDE), []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if family == "siglip":  # is trained with texts padded to one length, and without a mask
            ids = [*ids, *[0] * (16 - len(ids))]
        with torch.no_grad():
            made = model(input_ids=torch.tensor([ids]), pixel_values=pixels)
        told.append(made.text_embeds[0].numpy())
    return np.stack(told)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_within_1e_4_of_torch(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    make_reference(Source(folder=folders[family], origin="tiny"), tmp_path, max_context=None)
    record = DualRecord.read(tmp_path)
    assert record.difference < MAX_DIFFERENCE
    assert record.dimensions == (80 if family == "siglip" else 48)
    assert record.context_length == (16 if family == "siglip" else 32)
    assert record.is_padded is (family == "siglip")
    assert record.patches == (16 if family == "siglip" else 17)
    assert record.likelihood.function == ("sigmoid" if family == "siglip" else "softmax")
    # And once more by hand: a batch of texts of several lengths, beside torch with its mask.
    model = make_dual_encoder(family)
    end = VOCABULARY - 1
    rows = [[*range(3, 3 + length), end] for length in (15, 4, 1)]
    wide = np.array([row + [0] * (16 - len(row)) for row in rows])
    options = {} if family == "siglip" else {"attention_mask": torch.tensor(wide > 0).long()}
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor(wide), pixel_values=pixels, **options).text_embeds
    got = session_of(tmp_path, record).read(rows)
    assert np.abs(got - wanted.numpy()).max() < MAX_DIFFERENCE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_daemon_makes_the_vectors_that_transformers_makes(
    family: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = Image.open(PHOTOGRAPH)
    told, seen = by_transformers(folders[family], family, [photograph])
    media = Media(type="image/jpeg", data=PHOTOGRAPH.read_bytes())
    array = np.asarray(photograph.convert("RGB"))
    raw = Media(type="image/x-raw", data=array.tobytes(), shape=array.shape, dtype="uint8")
    with short_directory() as place:
        home = Home(place)
        out = ("--out", str(home.store / "tiny"), "--scheme", "fp32")
        made = answer(capsys, "model", str(folders[family]), "--name", "tiny", *out)
        assert made["difference_from_torch"] < MAX_DIFFERENCE
        with home.serving(), Client(home.endpoint) as client:
            (info,) = client.models()
            assert (info.kind, info.tasks) == ("dual-encoder", ("embed", "score", "classify"))
            inputs = [TEXTS[0], media, TEXTS[1], raw, TEXTS[2]]
            found = client.embed("tiny", inputs).embeddings()
            assert found.usage.images == 2
            assert found.usage.prompt_tokens > len(TEXTS)
            assert np.abs(found.array[[0, 2, 4]] - told).max() < 1e-4
            assert np.abs(found.array[[1, 3]] - seen).max() < 1e-4
            many = client.embed("tiny", [media] * 40).embeddings().array
            assert np.abs(many - seen).max() < 1e-4
            broken = Media(type="image/png", data=b"png")
            with pytest.raises(InvalidMedia, match="input 1: 3 bytes are no picture"):
                client.embed("tiny", ["a", broken]).embeddings()


LABELS = ("red square", "woman", "uniform")


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_as_likely_as_transformers_finds_them(
    family: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images = [Image.open(PHOTOGRAPH), Image.new("RGB", (40, 50), (200, 30, 40))]
    prompt = "the photo of a {}"
    model = make_dual_encoder(family)
    told = vectors_of(folders[family], family, [prompt.format(label) for label in LABELS])
    seen = by_transformers(folders[family], family, images)[1]
    scale, bias = model.logit_scale.exp().item(), 0.0
    if family == "siglip":
        bias = model.logit_bias.item()
    logits = torch.from_numpy(scale * seen @ told.T + bias)
    wanted = logits.sigmoid() if family == "siglip" else logits.softmax(1)
    with short_directory() as place:
        home = Home(place)
        out = ("--out", str(home.store / "tiny"), "--scheme", "fp32")
        answer(capsys, "model", str(folders[family]), "--name", "tiny", *out)
        with home.serving(), Client(home.endpoint) as client:
            media = [Media(type="image/png", data=png(image)) for image in images]
            found = client.classify("tiny", media, labels=LABELS, prompt=prompt).collected()
            assert found.usage.images == 2
            for row, labels in zip(wanted.numpy(), found.labels, strict=True):
                scores = {one.label: one.score for one in labels}
                assert [scores[label] for label in LABELS] == pytest.approx(row, abs=1e-4)
                assert [one.score for one in labels] == sorted(scores.values(), reverse=True)
            (best,) = client.classify("tiny", media[0], labels=LABELS, top_k=1).collected().labels
            assert len(best) == 1
            for fields, wrong in (
                ({}, "this model has no labels of its own: name some"),
                ({"labels": ["a", "a"]}, r"labels\[1\] is there twice"),
                ({"labels": ["a", ""]}, r"labels\[1\] is empty"),
                ({"labels": ["a"], "prompt": "b"}, r"prompt has no \{\} where the label goes"),
            ):
                with pytest.raises(InvalidParameter, match=wrong):
                    client.classify("tiny", media, **fields).collected()
            scored = client.score("tiny", TEXTS[0], TEXTS).collected().scores
            assert scored[0] == pytest.approx(1.0, abs=1e-5)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_folder_becomes_a_bundle_that_verifies(
    family: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = answer(capsys, "model", str(folders[family]))
    assert list(made["variants"]) == ["cpu-int8-b64", "cpu-fp32"]
    bundle = Bundle.open(Path(made["bundle"])).of_kind(DualEncoder)
    manifest = bundle.manifest
    assert manifest.provenance.licence == "MIT"
    assert manifest.pad_token_id == 0
    assert manifest.processors.pictures.size == (SIDE, SIDE)
    assert answer(capsys, "model", str(folders[family]))["made"] is False
    verdict = answer(capsys, "verify", made["bundle"], "--report", str(tmp_path / "report"))
    assert verdict["passed"] is True
    assert len(verdict["variants"]) == 4
    for name, check in verdict["variants"].items():
        assert check["fidelity_measured"] == check["fidelity_recorded"]
        assert check["golden_cosine"] >= (0.9999 if "fp32" in name else 0.99)
    assert (tmp_path / "report" / "report.json").is_file()


def test_a_running_daemon_tries_golden_samples_before_it_serves_them(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = answer(capsys, "model", str(folders["clip"]), "--out", str(tmp_path / "one"))["bundle"]
    with short_directory() as place:
        home = Home(place)
        there = ("--to", home.endpoint, "--store", str(home.store))
        with home.serving():
            told = answer(capsys, "deploy", path, "--as", "prod", *there)
            assert told["golden"]["least_cosine"] >= 0.99
            assert told["golden"]["texts"] > 4


def test_a_text_encoder_takes_no_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_encoder_folder(tmp_path / "texts")
    with short_directory() as place:
        home = Home(place)
        answer(capsys, "model", str(folder), "--out", str(home.store / "texts"))
        with home.serving(), Client(home.endpoint) as client:
            media = Media(type="image/jpeg", data=PHOTOGRAPH.read_bytes())
            with pytest.raises(UnsupportedTask, match="texts reads texts, and takes no media"):
                client.embed("texts", ["a", media]).embeddings()


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("preprocessor_config.json", {"size": {"longest_edge": 4}}, "a size of .* has no form"),
        ("preprocessor_config.json", {"crop_size": 31}, "prepared as 31 x 31, and the model takes"),
        ("preprocessor_config.json", {"image_processor_type": "Odd"}, "'Odd' has no form here"),
        ("preprocessor_config.json", {"resample": 9}, "resample must be a filter's number"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "std must be above 0"),
        ("config.json", {"projection_dim": "x"}, "vectors of 'x' numbers have no form"),
        ("config.json", {"quantization_config": {}}, "quantised already"),
        ("config.json", {"text_config": 3}, "text_config is no object"),
    ],
)
def test_what_has_no_form_is_refused(
    name: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = write_dual_folder(tmp_path / "model")
    stated = json.loads((folder / name).read_text())
    write_json(folder / name, stated | changes)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Refused, match=reason):
        make_reference(Source(folder=folder, origin="tiny"), out, max_context=None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--scheme", "w8a8"), "--scheme w8a8: models of texts and pictures have blocks"),
        (("--scheme", "x4"), "--scheme x4 is for text models"),
        (("--threshold", "kl=1"), "--threshold kl: this kind of model is measured by cosine"),
    ],
)
def test_schemes_that_it_does_not_have_are_refused(
    options: tuple[str, ...],
    reason: str,
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = answer(capsys, "model", str(folders["clip"]), *options, status=1)
    assert told["error"].startswith(reason)


def test_a_folder_is_searched_by_words_through_a_daemon(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    colours = {"red": (220, 20, 30), "green": (10, 200, 40), "blue": (20, 30, 210)}
    images = [Image.new("RGB", (40, 50), colour) for colour in colours.values()]
    for name, image in zip(colours, images, strict=True):
        (pictures / f"{name}.png").write_bytes(png(image))
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    told, seen = by_transformers(folders["clip"], "clip", images)
    wanted = dict(zip(colours, seen @ told[1], strict=True))
    with short_directory() as place:
        home = Home(place)
        out = ("--out", str(home.store / "tiny"), "--scheme", "fp32")
        answer(capsys, "model", str(folders["clip"]), "--name", "tiny", *out)
        monkeypatch.setenv("NSEDGE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("NSEDGE_ENDPOINT", home.endpoint)
        with home.serving():
            assert nsedge(["search", "--json", str(pictures), TEXTS[1]]) == 0
            said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    names = [Path(one["path"]).stem for one in found]
    assert names == sorted(wanted, key=lambda name: -wanted[name])
    assert [one["cosine"] for one in found] == pytest.approx(
        sorted(wanted.values(), reverse=True), abs=1e-4
    )
    assert said.err.startswith("3 pictures: 4 new, 0 changed, 0 removed\n")
    assert "left out: broken.jpg: 15 bytes are no picture in JPEG" in said.err
