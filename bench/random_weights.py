"""Models of a real shape with random weights, for both engines: they time as trained ones do.

Nothing is to be learnt from what they say: speed only. Needs the exporters' libraries.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer as Vocabulary
from tokenizers.models import WordLevel

from exporters.cache import new_directory
from exporters.graph.graph import Graph
from exporters.graph.native import write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, SEGMENTS, native_layout
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import Scheme
from exporters.trace.reference import export_clean, kv_layout
from nsedge.bundle.causal_lm import CausalLm, GenerationDefaults, GraphIo, KvLayout, Variant
from nsedge.bundle.fields import FileEntry, Provenance, Tokenizer
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle
from nsedge.native import REQUIREMENT
from nsedge.version import VERSION

NAME = "llama-3.2-1b-shape-random"
CONTEXT = 2048
SEED = 1
PARAMETERS = 1_235_814_400
LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": True,
}
"""The configuration of Llama-3.2-1B."""
GGUF_LAYER = {
    "attn_q": (2048, 2048),
    "attn_k": (512, 2048),
    "attn_v": (512, 2048),
    "attn_output": (2048, 2048),
    "ffn_gate": (8192, 2048),
    "ffn_up": (8192, 2048),
    "ffn_down": (2048, 8192),
}


def four_bits(block: int) -> Scheme:
    """Layers in 4 bits with zero points, embedding and head in 8, in blocks of `block`."""
    return Scheme(
        name=f"int4-b{block}",
        about="4-bit layers, 8-bit embedding and head",
        bits=4,
        block=block,
        table_bits=8,
        table_block=block,
        promise=None,
    )


def bundle_of(scheme: Scheme, cache: Path) -> Path:
    """The bundle in `scheme`, made in `cache` if it is not there. Its tokenizer knows no language.

    It takes about 15 GB of memory, and 12 GB of disk until it is made.
    """
    out = cache / f"{NAME}-{scheme.name}-{REQUIREMENT}"
    if not out.exists():
        reference = _reference(cache)
        with new_directory(out) as folder:
            graph = Graph.load(reference / GRAPH_FILE)
            quantise(graph, scheme)
            (folder / "cpu").mkdir()
            graph.save(folder / "cpu" / GRAPH_FILE)
            write_native(folder / "cpu" / GRAPH_FILE, folder / "cpu" / NATIVE_FILE)
            _describe(folder, scheme)
    return out


def _reference(cache: Path) -> Path:
    """The fp32 graph."""
    out = cache / f"{NAME}-fp32"
    if not out.exists():
        torch.manual_seed(SEED)
        config = transformers.LlamaConfig(**LLAMA_1B, attn_implementation="eager")
        model = transformers.LlamaForCausalLM(config).eval()
        with new_directory(out) as folder:
            export_clean(model, folder, kv=kv_layout(config), context=CONTEXT)
    return out


def _describe(folder: Path, scheme: Scheme) -> None:
    words = {f"w{number}": number for number in range(LLAMA_1B["vocab_size"])}
    Vocabulary(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    (folder / "golden.json").write_text("[]\n", encoding="utf-8")
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = {str(path.relative_to(folder)): path for path in kept}
    heads, head_dim = LLAMA_1B["num_key_value_heads"], LLAMA_1B["head_dim"]
    layout = KvLayout(layers=LLAMA_1B["num_hidden_layers"], heads=heads, head_dim=head_dim)
    standard = Variant(
        name=f"cpu-{scheme.name}",
        device="cpu",
        scheme=scheme.name,
        graph=f"cpu/{GRAPH_FILE}",
        io=GraphIo(),
        kv=layout,
    )
    native = msgspec.structs.replace(
        standard,
        name=f"{standard.name}-native",
        graph=f"cpu/{NATIVE_FILE}",
        requires=(REQUIREMENT,),
        io=msgspec.structs.replace(standard.io, segments=SEGMENTS),
        kv=native_layout(layout),
    )
    manifest = CausalLm.made(
        name=NAME,
        context_length=CONTEXT,
        vocab_size=LLAMA_1B["vocab_size"],
        eos_token_ids=(0,),
        tokenizer=Tokenizer(file="tokenizer.json"),
        chat_template=None,
        generation_defaults=GenerationDefaults(),
        variants=(native, standard),
        golden="golden.json",
        provenance=Provenance(
            source="random weights",
            architecture="LlamaForCausalLM",
            parameters=PARAMETERS,
            licence="none",
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            exporter={"nsedge": VERSION},
        ),
        files={n: FileEntry(sha256=sha256_of(p), bytes=p.stat().st_size) for n, p in paths.items()},
    )
    write_manifest(folder, manifest)
    Bundle.open(folder)


def gguf_of(cache: Path) -> Path:
    """A Q4_0 file of the shape, made in `cache` if it is not there.

    As llama-quantize makes them, the embedding, which is the head too, is Q6_K.
    """
    out = cache / NAME / "Q4_0.gguf"
    if not out.exists():
        with new_directory(out.parent) as folder:
            writer = gguf.GGUFWriter(folder / out.name, "llama")
            _write_shape(writer)
            _write_weights(writer, np.random.default_rng(SEED))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    return out


def _write_shape(writer: Any) -> None:
    writer.add_name(NAME)
    writer.add_context_length(LLAMA_1B["max_position_embeddings"])
    writer.add_embedding_length(LLAMA_1B["hidden_size"])
    writer.add_block_count(LLAMA_1B["num_hidden_layers"])
    writer.add_feed_forward_length(LLAMA_1B["intermediate_size"])
    writer.add_head_count(LLAMA_1B["num_attention_heads"])
    writer.add_head_count_kv(LLAMA_1B["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(LLAMA_1B["rms_norm_eps"])
    writer.add_rope_freq_base(LLAMA_1B["rope_theta"])
    writer.add_rope_dimension_count(LLAMA_1B["head_dim"])
    writer.add_vocab_size(LLAMA_1B["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("no_vocab")


def _write_weights(writer: Any, rng: np.random.Generator) -> None:
    hidden, rows = LLAMA_1B["hidden_size"], LLAMA_1B["vocab_size"]
    ones = np.ones(hidden, np.float32)
    table = _blocks(rng, rows, hidden, gguf.GGMLQuantizationType.Q6_K, scale_at=208)
    writer.add_tensor("token_embd.weight", table, raw_dtype=gguf.GGMLQuantizationType.Q6_K)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("rope_freqs.weight", np.ones(LLAMA_1B["head_dim"] // 2, np.float32))
    for layer in range(LLAMA_1B["num_hidden_layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", ones)
        for name, (height, width) in GGUF_LAYER.items():
            kind = gguf.GGMLQuantizationType.Q4_0
            blocks = _blocks(rng, height, width, kind, scale_at=0)
            writer.add_tensor(f"blk.{layer}.{name}.weight", blocks, raw_dtype=kind)


def _blocks(
    rng: np.random.Generator, height: int, width: int, kind: Any, *, scale_at: int
) -> NDArray[np.uint8]:
    """Random blocks of a quantised matrix, with a small fp16 scale at byte `scale_at` of each."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    made = rng.integers(0, 256, (height, width // block, size), np.uint8)
    made[:, :, scale_at : scale_at + 2] = np.array([1e-3], np.float16).view(np.uint8)
    return made.reshape(height, -1)
