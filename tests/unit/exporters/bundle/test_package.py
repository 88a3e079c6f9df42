"""A bundle appears whole, is left alone when nothing changed, and replaces only its own kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from exporters.bundle.build import Report, pack
from exporters.bundle.orders import (
    Order,
    VariantOrder,
    one_variant,
    usual_variant,
    variants_named,
)
from exporters.bundle.package import Product, package, variant_digest
from exporters.cache import Cache
from exporters.errors import ExportError, Refused
from exporters.graph.kv_int8 import SCALES_FILE
from exporters.graph.records import Exported, ExportedVariant, GoldenResult, Trial
from exporters.measure.promise import Promise
from exporters.model.source import Source
from exporters.progress import Progress
from exporters.quantise.schemes import Device, KvFormat, promise_of, scheme_of
from nsedge.bundle.causal_lm import Fidelity, GoldenPrompt, GraphIo, KvLayout, PromptIo
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid

FIDELITY = Fidelity(
    positions=600, kl=0.007, top1=0.95, perplexity=15.0, perplexity_fp32=14.8, text_sha256="0" * 64
)
GOLDEN = GoldenPrompt(text="a", prompt_ids=(0,), continuation_ids=(1, 2), logprobs=(-0.25, -0.5))


TRIAL = Trial(
    fidelity=FIDELITY,
    golden=GoldenResult(tokens=20, top1=0.95, difference=0.05),
    answers=("b c",),
)
VARIANT = ExportedVariant(
    name="cpu-int8-b64",
    device="cpu",
    scheme="int8-b64",
    io=GraphIo(),
    kv=KvLayout(layers=1, heads=1, head_dim=16),
    trial=TRIAL,
    native=None,
    native_lacks="it has no attention",
    nodes=1,
    kept_fp32={},
)


@pytest.fixture
def product(tmp_path: Path) -> Product:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a")).save(
        str(folder / "tokenizer.json")
    )
    save_file({"w": np.zeros((2, 3), np.float32)}, folder / "model.safetensors")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "LICENSE").write_text("Do what you like.")
    exported = Exported(
        origin="org/tiny",
        revision="r1",
        parameters=6,
        context_length=64,
        vocab_size=3,
        difference=1e-5,
        recorded_difference=None,
        libraries={"torch": "2.13"},
        reference="reference/key",
        golden=(GOLDEN,),
        prompts=("a",),
        answers=("b c",),
        variants=(),
    )
    source = Source(folder=folder, origin="org/tiny", revision="r1")
    empty = Product(exported=exported, source=source, folders={})
    return with_variants(empty, tmp_path, VARIANT)


def with_variants(product: Product, tmp_path: Path, *variants: ExportedVariant) -> Product:
    """The same model in these variants, each with a graph of its own."""
    folders = {}
    for variant in variants:
        folder = folders[variant.name] = tmp_path / "graphs" / variant.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(b"graph")
        (folder / "model.onnx.data").write_bytes(f"weights in {variant.scheme}".encode())
        if variant.native is not None:
            (folder / "native.onnx").write_bytes(b"native graph")
    exported = msgspec.structs.replace(product.exported, variants=variants)
    return replace(product, exported=exported, folders=folders)


def changed(product: Product, tmp_path: Path, **changes: Any) -> Product:
    """The same with another variant."""
    return with_variants(product, tmp_path, msgspec.structs.replace(VARIANT, **changes))


def write(
    product: Product, out: Path, *, name: str = "tiny", replace: bool = False, **limits: float
) -> bool:
    return package(product, out, name=name, overrides=limits, replace=replace)[0]


def test_everything_is_in_the_bundle_and_hashed(product: Product, tmp_path: Path) -> None:
    out = tmp_path / "bundles" / "tiny"
    assert write(product, out)
    bundle = Bundle.open(out)
    bundle.verify_hashes()
    manifest = bundle.manifest
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"manifest.json", *manifest.files}
    assert bundle.golden("generate", GoldenPrompt) == (GOLDEN,)
    assert bundle.text(bundle.manifest.chat_template) == "{{ messages }}"
    assert manifest.variants[0].graph == "cpu-int8-b64/model.onnx"
    assert manifest.variants[0].fidelity == FIDELITY
    assert (manifest.provenance.source, manifest.provenance.revision) == ("org/tiny", "r1")
    assert manifest.provenance.parameters == 6
    assert manifest.provenance.created.endswith("Z")
    assert manifest.eos_token_ids == (2,)


def test_the_same_again_is_left_alone_and_a_newer_one_replaces_it(
    product: Product, tmp_path: Path
) -> None:
    out = tmp_path / "tiny"
    write(product, out)
    before = (out / "manifest.json").stat()
    assert not write(product, out)
    after = (out / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    newer = changed(product, tmp_path, name="cpu-int8-b32", scheme="int8-b32")
    assert write(newer, out)
    assert Bundle.open(out).manifest.variants[0].name == "cpu-int8-b32"
    assert not (out / "cpu-int8-b64").exists()


def test_a_damaged_bundle_needs_force(product: Product, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    write(product, out)
    (out / "golden.json").unlink()
    with pytest.raises(ExportError, match="--force replaces it"):
        write(product, out)
    assert write(product, out, replace=True)
    Bundle.open(out).verify_hashes()


def test_another_models_bundle_and_strange_files_are_left_alone(
    product: Product, tmp_path: Path
) -> None:
    out = tmp_path / "tiny"
    write(product, out)
    exported = msgspec.structs.replace(product.exported, origin="org/other")
    other = replace(product, exported=exported, source=replace(product.source, origin="org/other"))
    with pytest.raises(ExportError, match="is there already and is another thing"):
        write(other, out)
    assert Bundle.open(out).manifest.provenance.source == "org/tiny"
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="is there already"):
        write(product, notes)
    assert (notes / "thesis.txt").read_text() == "years of work"


def test_a_write_that_breaks_off_leaves_what_was_there(product: Product, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    write(product, out)
    broken = changed(product, tmp_path, name="cpu-int8-b32", scheme="int8-b32")
    broken = replace(broken, folders={"cpu-int8-b32": tmp_path / "absent"})
    with pytest.raises(BundleInvalid, match=r"absent/model\.onnx: No such file"):
        write(broken, out)
    Bundle.open(out).verify_hashes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graphs", "model", "tiny"]


def test_a_variant_is_told_by_its_weights(product: Product, tmp_path: Path) -> None:
    write(product, tmp_path / "one")
    one = variant_digest(Bundle.open(tmp_path / "one"))
    write(product, tmp_path / "two", name="two")
    assert variant_digest(Bundle.open(tmp_path / "two")) == one
    (product.folders["cpu-int8-b64"] / "model.onnx.data").write_bytes(b"tuned weights")
    write(product, tmp_path / "three")
    assert variant_digest(Bundle.open(tmp_path / "three")) != one


def test_an_int8_cache_brings_its_scales_and_a_name_of_its_own(
    product: Product, tmp_path: Path
) -> None:
    scales = np.ones((1, 2, 1, 16), np.float32)
    kv = KvLayout(layers=1, heads=1, head_dim=16, dtype="int8", scales=SCALES_FILE)
    io, name = GraphIo(prompt=PromptIo()), "cpu-int8-b64-kv8"
    made = changed(product, tmp_path, name=name, io=io, kv=kv)
    np.save(made.folders[name] / SCALES_FILE, scales)
    out = tmp_path / "tiny"
    write(made, out)
    bundle = Bundle.open(out)
    (variant,) = bundle.manifest.variants
    assert variant.name == "cpu-int8-b64-kv8"
    assert variant.kv.scales == f"cpu-int8-b64-kv8/{SCALES_FILE}"
    assert np.array_equal(np.load(bundle.file(variant.kv.scales)), scales)
    assert promise_of(variant) == Promise(kl=pytest.approx(0.013), top1=pytest.approx(0.91))


def test_a_graph_for_a_gpu_says_so(product: Product, tmp_path: Path) -> None:
    kv = KvLayout(layers=1, heads=1, head_dim=16, dtype="float16")
    out = tmp_path / "tiny"
    write(changed(product, tmp_path, name="cuda-int8-b64-fp16", device="cuda", kv=kv), out)
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
    product: Product, scheme: str, kv: KvFormat, device: Device, reason: str
) -> None:
    variant = one_variant(scheme_of(scheme), kv, device)
    order = Order(source=product.source, variants=(variant,))
    with pytest.raises(Refused, match=reason):
        order.check()


@pytest.mark.parametrize(
    ("kv", "device", "same"),
    [
        (KvFormat.FLOAT32, Device.CPU, True),
        (KvFormat.INT8, Device.CPU, False),
        (KvFormat.FLOAT32, Device.CUDA, False),
    ],
)
def test_the_reference_is_the_cpus_in_float32(kv: KvFormat, device: Device, same: bool) -> None:
    assert one_variant(scheme_of("fp32"), kv, device).is_reference is same


HALF = KvLayout(layers=1, heads=1, head_dim=16, dtype="float16")


def test_variants_lie_side_by_side_and_share_the_rest(product: Product, tmp_path: Path) -> None:
    orders = variants_named("cpu-int8, cpu-x4, cuda-fp16,cuda-int4")
    made = [
        msgspec.structs.replace(
            VARIANT,
            name=order.name,
            device=order.device.value,
            scheme=order.scheme.name,
            kv=HALF if order.device is Device.CUDA else VARIANT.kv,
            native=TRIAL if order.name == "cpu-int8" else None,
            trial=Trial(
                fidelity=msgspec.structs.replace(FIDELITY, kl=0.001, top1=0.99),
                golden=TRIAL.golden,
                answers=TRIAL.answers,
            ),
        )
        for order in orders
    ]
    out = tmp_path / "tiny"
    write(with_variants(product, tmp_path, *made), out)
    bundle = Bundle.open(out)
    bundle.verify_hashes()
    # A daemon takes the first that runs: a GPU's where there is one, else the CPU's as asked for.
    assert [variant.name for variant in bundle.manifest.variants] == [
        "cuda-fp16",
        "cuda-int4",
        "cpu-int8-native",
        "cpu-int8",
        "cpu-x4",
    ]
    names = sorted(path.name for path in out.rglob("tokenizer.json"))
    assert names == ["tokenizer.json"]
    report = json.loads((out / "report.json").read_text())
    assert set(report["variants"]) == {variant.name for variant in bundle.manifest.variants}
    assert report["answers"][0]["variants"]["cpu-x4"] == "b c"
    page = (out / "report.md").read_text()
    assert "| cuda-int4 | 0.0010 | 0.990 |" in page
    assert {"report.json", "report.md"} <= bundle.manifest.files.keys()


def test_what_is_too_far_from_fp32_is_not_packaged(product: Product, tmp_path: Path) -> None:
    far = msgspec.structs.replace(TRIAL, fidelity=msgspec.structs.replace(FIDELITY, kl=0.02))
    out = tmp_path / "tiny"
    made = changed(product, tmp_path, trial=far)
    with pytest.raises(ExportError, match=r"cpu-int8-b64: kl is 0\.02, to be at most 0\.01;"):
        write(made, out)
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graphs", "model"]


def test_limits_that_were_overridden_stand_in_report_and_provenance(
    product: Product, tmp_path: Path
) -> None:
    far = msgspec.structs.replace(TRIAL, fidelity=msgspec.structs.replace(FIDELITY, kl=0.02))
    made, out = changed(product, tmp_path, trial=far), tmp_path / "tiny"
    overrides = {"cpu-int8-b64.kl": 0.03}
    package(made, out, name="tiny", overrides=overrides, replace=False)
    assert Bundle.open(out).manifest.provenance.thresholds == overrides
    report = json.loads((out / "report.json").read_text())
    assert report["thresholds_overridden"] == overrides
    assert report["variants"]["cpu-int8-b64"]["limits"]["kl"] == 0.03
    assert "`cpu-int8-b64.kl=0.03`" in (out / "report.md").read_text()
    with pytest.raises(ExportError, match="no variant cpu-x4; there are cpu-int8-b64, cpu-int8"):
        package(made, out, name="tiny", overrides={"cpu-x4.kl": 1.0}, replace=False)


def far_native(product: Product, tmp_path: Path) -> Product:
    """The variant with a native form that is a hair too far from fp32."""
    far = msgspec.structs.replace(TRIAL, fidelity=msgspec.structs.replace(FIDELITY, kl=0.01005))
    return changed(product, tmp_path, native=far, native_lacks=None, evened={3: 45.5})


def packed(made: Product, out: Path, tmp_path: Path, **limits: float) -> Report:
    cache = Cache(tmp_path / "cache", Progress(None))
    return pack(made, out, name="tiny", cache=cache, overrides=limits)


def test_a_native_form_that_is_too_far_is_left_out_and_told(
    product: Product, tmp_path: Path
) -> None:
    made, out = far_native(product, tmp_path), tmp_path / "tiny"
    report = packed(made, out, tmp_path)
    bundle = Bundle.open(out)
    assert [variant.name for variant in bundle.manifest.variants] == ["cpu-int8-b64"]
    assert "cpu-int8-b64/native.onnx" not in bundle.manifest.files
    reason = "kl is 0.01005, to be at most 0.01 (the standard form's kl is 0.007)"
    assert report.verdict.notes == (f"cpu-int8-b64 without its native form: {reason}",)
    assert report.exported.variants[0].native_lacks == reason


def test_what_somebody_asked_for_is_kept_or_nothing_is_made(
    product: Product, tmp_path: Path
) -> None:
    made, out = far_native(product, tmp_path), tmp_path / "tiny"
    with pytest.raises(ExportError, match=r"not packaged: cpu-int8-b64-native: kl is 0\.01005"):
        packed(made, out, tmp_path, kl=0.01)
    # A limit on something else that is kept says nothing of the native form's distance.
    packed(made, out, tmp_path, golden=0.5)
    assert len(Bundle.open(out).manifest.variants) == 1
    # One that is wider lets it in.
    report = packed(made, out, tmp_path, kl=0.02)
    assert [variant.name for variant in Bundle.open(out).manifest.variants] == [
        "cpu-int8-b64-native",
        "cpu-int8-b64",
    ]
    (note,) = report.verdict.notes
    assert note.startswith("cpu-int8-b64-native evens out keys")
    assert note.endswith("in layers 3: a channel was up to 45.5 times as large as the median")


def test_only_a_scheme_that_nobody_named_gives_way() -> None:
    usual = usual_variant(scheme_of("int8-b64"), KvFormat.FLOAT32, Device.CPU)
    assert [each.name for each in usual.instead] == ["cpu-int8-b32", "cpu-fp32"]
    assert one_variant(scheme_of("int8-b64"), KvFormat.FLOAT32, Device.CPU).instead == ()
    assert all(not order.instead for order in variants_named("cpu-int8,cpu-x4"))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("cpu-int3", "no variant cpu-int3; there are cpu-int8"),
        ("tpu-int8", "no variant tpu-int8"),
        ("cuda-fp32", "no variant cuda-fp32"),
        ("cpu-int8,cpu-int8", "names cpu-int8 twice"),
        (" , ", "names nothing"),
        ("cuda-x4", "variant cuda-x4: --scheme x4 is for the CPU"),
        ("cuda-int8-kv8", "keeps its cache in float16"),
    ],
)
def test_variants_that_are_none_are_refused(names: str, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        variants_named(names)


def test_short_names_and_a_schemes_own_name_the_same() -> None:
    def kept(order: VariantOrder) -> tuple[str, KvFormat, Device]:
        return order.scheme.name, order.kv, order.device

    named = {order.name: kept(order) for order in variants_named("cpu-int8,cpu-int8-b64-kv8")}
    assert named == {
        "cpu-int8": ("int8-b64", KvFormat.FLOAT32, Device.CPU),
        "cpu-int8-b64-kv8": ("int8-b64", KvFormat.INT8, Device.CPU),
    }
    (half,) = variants_named("cuda-fp16")
    assert kept(half) == ("fp32", KvFormat.FLOAT32, Device.CUDA)
