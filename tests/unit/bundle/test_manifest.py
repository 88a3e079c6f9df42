"""A bundle is whole, or refused by the name of what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from nsedge.bundle.causal_lm import CausalLm, GoldenPrompt
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.files import find_bundles
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid, DeviceUnavailable
from nsedge.runtime.hosting.variants import choose_variant
from nsedge.runtime.settings import Device
from tests.unit.bundles import edit_manifest, write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny")


def test_a_whole_bundle_opens(path: Path) -> None:
    bundle = Bundle.open(path)
    bundle.verify_hashes()
    assert bundle.manifest.variants[0].kv.head_dim == 16
    assert bundle.golden("generate", GoldenPrompt)[0].logprobs == (-0.5,)
    assert find_bundles(path.parent) == [path]
    assert find_bundles(path.parent / "absent") == []


def test_a_truncated_file_is_named_on_opening(path: Path) -> None:
    (path / "cpu/model.onnx").write_bytes(b"not a")
    with pytest.raises(BundleInvalid, match=r"cpu/model\.onnx has 5 bytes, the manifest says 11"):
        Bundle.open(path)


def test_a_missing_file_is_named(path: Path) -> None:
    (path / "tokenizer.json").unlink()
    with pytest.raises(BundleInvalid, match=r"tokenizer\.json: No such file"):
        Bundle.open(path)


def test_an_altered_file_is_named_by_its_hash(path: Path) -> None:
    (path / "cpu/model.onnx").write_bytes(b"not a GRAPH")
    bundle = Bundle.open(path)
    with pytest.raises(BundleInvalid, match=r"cpu/model\.onnx was altered"):
        bundle.verify_hashes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, r"unknown field `colour`"),
        ({"format_version": 3}, r"format version 3; this release reads 1 and 2"),
        ({"format": "other"}, r"\$\.format"),
        ({"context_length": 0}, r"\$\.context_length"),
        ({"eos_token_ids": []}, r"\$\.eos_token_ids"),
        ({"golden": {"generate": "../../etc/passwd"}}, r"\$\.golden"),
        ({"golden": {"generate": "/etc/passwd"}}, r"\$\.golden"),
        ({"golden": {"generate": "other.json"}}, r"other\.json is used but not under files"),
        ({"variants": []}, r"\$\.components\.decoder\.variants"),
        ({"name": "../up"}, r"\$\.name"),
        ({"kind": "oracle"}, r"Invalid value 'oracle' - at `\$\.kind`"),
        ({"name": "tiny\n"}, r"\$\.name"),
        ({"golden": {"generate": "golden.json\n"}}, r"\$\.golden"),
        ({"eos_token_ids": [257, 300]}, "the end token 300 is none of the 300"),
        ({"eos_token_ids": [-1]}, r"\$\.eos_token_ids"),
        ({"generation_defaults": {"temperature": -0.5}}, "temperature must be at least 0.0"),
        ({"generation_defaults": {"temperature": 11}}, "and at most 10.0, not 11"),
        ({"generation_defaults": {"top_k": -1}}, "top_k must be at least 0"),
        ({"generation_defaults": {"top_p": 1.5}}, "top_p must be .*, not 1.5"),
        ({"generation_defaults": {"min_p": -0.1}}, "min_p must be"),
        ({"generation_defaults": {"typical_p": 2}}, "typical_p must be"),
        ({"generation_defaults": {"penalty_last_n": -2}}, "penalty_last_n must be"),
        (
            {"generation_defaults": {"repetition_penalty": 0}},
            r"repetition_penalty must be above 0.0 .*, not 0.0 - at `\$\.generation_defaults`",
        ),
        (
            {"generation_defaults": {"top_k": "4"}},
            r"got `str` - at `\$\.generation_defaults.top_k`",
        ),
        ({"colour\x1b[31m": "red"}, r"unknown field `colour\\x1b\[31m`"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    path: Path, changes: dict[str, object], message: str
) -> None:
    edit_manifest(path, **changes)
    with pytest.raises(BundleInvalid, match=message):
        Bundle.open(path)


@pytest.mark.parametrize("field", ["source", "revision", "architecture", "licence", "created"])
@pytest.mark.parametrize("character", ["\x1b", "\n", "\x9b", "\u202e", "\u2028"])
def test_what_is_printed_holds_no_control_character(path: Path, field: str, character: str) -> None:
    provenance = json.loads((path / "manifest.json").read_text())["provenance"]
    edit_manifest(path, provenance={**provenance, field: f"A{character}[31m"})
    with pytest.raises(BundleInvalid, match=rf"\$\.provenance\.{field}") as caught:
        Bundle.open(path)
    assert character not in str(caught.value)
    edit_manifest(path, provenance={**provenance, field: "Apache 2.0, naïve 模型"})
    Bundle.open(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("scheme", "int8\x1b[2J"), ("requires", ["nsedge-ops-3\n"]), ("name", "cpu\n")],
)
def test_what_is_printed_of_a_variant_neither(path: Path, field: str, value: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (variant,) = manifest["components"]["decoder"]["variants"]
    edit_manifest(path, variants=[{**variant, field: value}])
    with pytest.raises(BundleInvalid, match=rf"\.decoder\.variants\[0\]\.{field}"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"x": ' + b"[" * 100_000, "maximum recursion depth"),
        (b"{", "Input data was truncated"),
        (b'{"format": "\xff"}', "Invalid UTF-8 encoded string"),
    ],
)
def test_text_that_is_no_manifest_is_refused(path: Path, content: bytes, message: str) -> None:
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(BundleInvalid, match=rf"manifest\.json: {message}"):
        Bundle.open(path)
    (path / "golden.json").write_text("[{}]")


def test_golden_prompts_that_are_none_are_refused(path: Path) -> None:
    bundle = Bundle.open(path)
    (path / "golden.json").write_text("[{}]")
    with pytest.raises(BundleInvalid, match=r"golden\.json: .*missing required field"):
        bundle.golden("generate", GoldenPrompt)


def test_a_bundle_of_version_1_is_read(path: Path) -> None:
    today = Bundle.open(path)
    file = path / "manifest.json"
    new = json.loads(file.read_text())
    components, processors = new.pop("components"), new.pop("processors")
    old = {
        **new,
        "format_version": 1,
        "variants": components["decoder"]["variants"],
        "tokenizer": processors["tokenizer"],
        "chat_template": processors["chat_template"],
        "golden": new["golden"]["generate"],
    }
    file.write_text(json.dumps(old))
    assert Bundle.open(path).manifest == today.manifest
    edit_manifest(path, kind="encoder")
    with pytest.raises(BundleInvalid, match=r"\$\.kind"):
        Bundle.open(path)


def test_a_kind_that_is_not_wanted_is_refused(path: Path) -> None:
    with pytest.raises(BundleInvalid, match="is of the kind causal-lm, not encoder"):
        Bundle.open(path).of_kind(Encoder)


def test_no_variant_stands_in_for_another_device(path: Path) -> None:
    variants = Bundle.open(path).manifest.variants
    assert choose_variant(variants, Device.AUTO, "tiny").name == "cpu"
    with pytest.raises(DeviceUnavailable, match=r"no variant of tiny runs on device 'cuda'"):
        choose_variant(variants, Device.CUDA, "tiny")


def test_a_variant_that_was_asked_for_by_name_is_taken_or_nothing(path: Path) -> None:
    (first,) = Bundle.open(path).of_kind(CausalLm).manifest.variants
    variants = (first, msgspec.structs.replace(first, name="cpu-fp32"))
    assert choose_variant(variants, Device.AUTO, "tiny", wanted="cpu-fp32") is variants[1]
    lacking = r"no variant 'cpu-x4' \(models\.variants\) of tiny .*; the bundle has .*cpu-fp32"
    with pytest.raises(DeviceUnavailable, match=lacking):
        choose_variant(variants, Device.AUTO, "tiny", wanted="cpu-x4")
