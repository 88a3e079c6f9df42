"""A bundle without weights, small enough to be made anew for every test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from nsedge.bundle.causal_lm import CausalLm, GenerationDefaults, GraphIo, KvLayout, Variant
from nsedge.bundle.fields import FileEntry, Provenance
from nsedge.bundle.fields import Tokenizer as TokenizerEntry
from nsedge.bundle.files import sha256_of, write_manifest

TEMPLATE = (
    "{% for message in messages %}\n"
    "    {%- if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\n"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n"
    "{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def tokenizer() -> Tokenizer:
    """Every byte a token, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return made


def write_bundle(
    path: Path,
    *,
    add_bos: bool = False,
    template: str | None = TEMPLATE,
    unk_token: str | None = None,
    tool_template: str | None = None,
) -> Path:
    """Write the bundle to the directory `path`; its graph is not one."""
    (path / "cpu").mkdir(parents=True)
    tokenizer().save(str(path / "tokenizer.json"))
    (path / "cpu/model.onnx").write_bytes(b"not a graph")
    golden = [{"text": "a", "prompt_ids": [1], "continuation_ids": [2], "logprobs": [-0.5]}]
    (path / "golden.json").write_text(json.dumps(golden))
    names = ["tokenizer.json", "cpu/model.onnx", "golden.json"]
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
        names.append("chat_template.jinja")
    if tool_template is not None:
        (path / "tool_template.jinja").write_text(tool_template)
        names.append("tool_template.jinja")
    files = {
        name: FileEntry(sha256=sha256_of(path / name), bytes=(path / name).stat().st_size)
        for name in names
    }
    manifest = CausalLm.made(
        name="tiny",
        context_length=64,
        vocab_size=300,
        eos_token_ids=(257,),
        tokenizer=TokenizerEntry(
            file="tokenizer.json",
            bos_token="<|begin|>",
            eos_token="<|end|>",
            unk_token=unk_token,
            add_bos=add_bos,
        ),
        chat_template=None if template is None else "chat_template.jinja",
        tool_template=None if tool_template is None else "tool_template.jinja",
        generation_defaults=GenerationDefaults(temperature=0.5, top_p=0.9),
        variants=(
            Variant(
                name="cpu",
                device="cpu",
                scheme="none",
                graph="cpu/model.onnx",
                io=GraphIo(),
                kv=KvLayout(layers=1, heads=1, head_dim=16),
            ),
        ),
        golden="golden.json",
        provenance=Provenance(
            source="made for a test",
            architecture="none",
            parameters=1,
            licence="Apache-2.0",
            created="2026-01-02T03:04:05Z",
            exporter={},
        ),
        files=files,
    )
    write_manifest(path, manifest)
    return path


_PLACES = {
    "variants": ("components", "decoder", "variants"),
    "tokenizer": ("processors", "tokenizer"),
    "chat_template": ("processors", "chat_template"),
}


def edit_manifest(path: Path, **changes: Any) -> None:
    """Change fields of a bundle's manifest, by their own names wherever they stand."""
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    for name, value in changes.items():
        *way, last = _PLACES.get(name, (name,))
        place = manifest
        for step in way:
            place = place[step]
        place[last] = value
    file.write_text(json.dumps(manifest))
