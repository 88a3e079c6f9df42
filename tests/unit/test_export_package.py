"""A bundle appears whole, is left alone when nothing changed, and replaces only its own kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from exporters.errors import ExportError, Refused
from exporters.kv_int8 import SCALES_FILE
from exporters.package import Parts, variant_digest, write_bundle
from exporters.recipe import Order
from exporters.records import ReferenceRecord
from exporters.schemes import Device, KvFormat, Promise, promise_of, scheme_of
from exporters.source import Source
from nsedge.bundle import Bundle, Fidelity, GoldenPrompt, GraphIo, KvLayout, PromptIo
from nsedge.errors import BundleInvalid

FIDELITY = Fidelity(
    positions=600, kl=0.007, top1=0.95, perplexity=15.0, perplexity_fp32=14.8, text_sha256="0" * 64
)
GOLDEN = GoldenPrompt(text="a", prompt_ids=(0,), continuation_ids=(1, 2), logprobs=(-0.25, -0.5))


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    folder, graph = tmp_path / "model", tmp_path / "graph"
    folder.mkdir()
    graph.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a")).save(
        str(folder / "tokenizer.json")
    )
    save_file({"w": np.zeros((2, 3), np.float32)}, folder / "model.safetensors")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "LICENSE").write_text("Do what you like.")
    (graph / "model.onnx").write_bytes(b"graph")
    (graph / "model.onnx.data").write_bytes(b"weights")
    record = ReferenceRecord(
        io=GraphIo(),
        kv=KvLayout(layers=1, heads=1, head_dim=16),
        context_length=64,
        vocab_size=3,
        nodes={"MatMul": 1},
        difference=1e-5,
    )
    return Parts(
        name="tiny",
        scheme="int8-b64",
        source=Source(folder=folder, origin="org/tiny", revision="r1"),
        record=record,
        graph=graph,
        golden=(GOLDEN,),
        fidelity=FIDELITY,
        libraries={"torch": "2.13"},
    )


def test_everything_is_in_the_bundle_and_hashed(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "bundles" / "tiny"
    assert write_bundle(parts, out, replace=False)
    bundle = Bundle.open(out)
    bundle.verify_hashes()
    manifest = bundle.manifest
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"manifest.json", *manifest.files}
    assert bundle.golden() == (GOLDEN,)
    assert bundle.chat_template() == "{{ messages }}"
    assert manifest.variants[0].graph == "cpu-int8-b64/model.onnx"
    assert manifest.variants[0].fidelity == FIDELITY
    assert (manifest.provenance.source, manifest.provenance.revision) == ("org/tiny", "r1")
    assert manifest.provenance.parameters == 6
    assert manifest.provenance.created.endswith("Z")
    assert manifest.eos_token_ids == (2,)


def test_the_same_again_is_left_alone_and_a_newer_one_replaces_it(
    parts: Parts, tmp_path: Path
) -> None:
    out = tmp_path / "tiny"
    write_bundle(parts, out, replace=False)
    before = (out / "manifest.json").stat()
    assert not write_bundle(parts, out, replace=False)
    after = (out / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write_bundle(replace(parts, scheme="int8-b32"), out, replace=False)
    assert Bundle.open(out).manifest.variants[0].name == "cpu-int8-b32"
    assert not (out / "cpu-int8-b64").exists()


def test_a_damaged_bundle_needs_force(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    write_bundle(parts, out, replace=False)
    (out / "golden.json").unlink()
    with pytest.raises(ExportError, match="--force replaces it"):
        write_bundle(parts, out, replace=False)
    assert write_bundle(parts, out, replace=True)
    Bundle.open(out).verify_hashes()


def test_another_models_bundle_and_strange_files_are_left_alone(
    parts: Parts, tmp_path: Path
) -> None:
    out = tmp_path / "tiny"
    write_bundle(parts, out, replace=False)
    other = replace(parts, source=replace(parts.source, origin="org/other"))
    with pytest.raises(ExportError, match="is there already and is another thing"):
        write_bundle(other, out, replace=False)
    assert Bundle.open(out).manifest.provenance.source == "org/tiny"
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="is there already"):
        write_bundle(parts, notes, replace=False)
    assert (notes / "thesis.txt").read_text() == "years of work"


def test_a_write_that_breaks_off_leaves_what_was_there(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    write_bundle(parts, out, replace=False)
    broken = replace(parts, scheme="int8-b32", graph=tmp_path / "absent")
    with pytest.raises(BundleInvalid, match=r"absent/model\.onnx: No such file"):
        write_bundle(broken, out, replace=False)
    Bundle.open(out).verify_hashes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "model", "tiny"]


def test_a_variant_is_told_by_its_weights(parts: Parts, tmp_path: Path) -> None:
    write_bundle(parts, tmp_path / "one", replace=False)
    one = variant_digest(Bundle.open(tmp_path / "one"))
    write_bundle(replace(parts, golden=(), name="two"), tmp_path / "two", replace=False)
    assert variant_digest(Bundle.open(tmp_path / "two")) == one
    (parts.graph / "model.onnx.data").write_bytes(b"tuned weights")
    write_bundle(parts, tmp_path / "three", replace=False)
    assert variant_digest(Bundle.open(tmp_path / "three")) != one


def test_an_int8_cache_brings_its_scales_and_a_name_of_its_own(
    parts: Parts, tmp_path: Path
) -> None:
    scales = np.ones((1, 2, 1, 16), np.float32)
    np.save(parts.graph / SCALES_FILE, scales)
    kv = KvLayout(layers=1, heads=1, head_dim=16, dtype="int8", scales=SCALES_FILE)
    record = msgspec.structs.replace(parts.record, io=GraphIo(prompt=PromptIo()), kv=kv)
    out = tmp_path / "tiny"
    write_bundle(replace(parts, record=record), out, replace=False)
    bundle = Bundle.open(out)
    (variant,) = bundle.manifest.variants
    assert variant.name == "cpu-int8-b64-kv8"
    assert variant.kv.scales == f"cpu-int8-b64-kv8/{SCALES_FILE}"
    assert np.array_equal(np.load(bundle.file(variant.kv.scales)), scales)
    assert promise_of(variant) == Promise(kl=pytest.approx(0.013), top1=pytest.approx(0.91))


def test_a_graph_for_a_gpu_says_so(parts: Parts, tmp_path: Path) -> None:
    kv = KvLayout(layers=1, heads=1, head_dim=16, dtype="float16")
    record = msgspec.structs.replace(parts.record, kv=kv)
    out = tmp_path / "tiny"
    write_bundle(replace(parts, record=record, device="cuda"), out, replace=False)
    (variant,) = Bundle.open(out).manifest.variants
    assert (variant.name, variant.device) == ("cuda-int8-b64-fp16", "cuda")
    assert promise_of(variant) != scheme_of("int8-b64").promise


@pytest.mark.parametrize(
    ("scheme", "kv", "device", "reason"),
    [
        ("w8a8", KvFormat.INT8, Device.CPU, "--kv int8"),
        ("w8a8", KvFormat.FLOAT32, Device.CUDA, "for the CPU"),
        ("int8-b64", KvFormat.INT8, Device.CUDA, "float16"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(
    parts: Parts, scheme: str, kv: KvFormat, device: Device, reason: str
) -> None:
    source = parts.source
    order = Order(source=source, name="tiny", scheme=scheme_of(scheme), kv=kv, device=device)
    with pytest.raises(Refused, match=reason):
        order.check()


@pytest.mark.parametrize(
    ("kv", "device", "native"),
    [
        (KvFormat.FLOAT32, Device.CPU, True),
        (KvFormat.INT8, Device.CPU, False),
        (KvFormat.FLOAT32, Device.CUDA, False),
    ],
)
def test_the_reference_and_the_native_form_are_the_cpus_in_float32(
    parts: Parts, kv: KvFormat, device: Device, native: bool
) -> None:
    order = Order(source=parts.source, name="tiny", scheme=scheme_of("fp32"), kv=kv, device=device)
    assert (order.is_reference, order.has_native_form) == (native, native)
