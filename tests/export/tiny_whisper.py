"""Tiny Whisper models with random weights, as transformers lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LANGUAGES = ("en", "de", "haw")
CONTROL = ("startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm")
AFTER = ("startofprev", "nospeech", "notimestamps")
TIMES = 1501
WIDTH, HEADS, BINS, POSITIONS = 64, 4, 80, 96


def tokenizer() -> Tokenizer:
    """Every byte a token, and Whisper's control tokens; timestamps are ids without a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ("endoftext", *CONTROL, *AFTER)
    made.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return made


def make_whisper(*, frames: int = 1500, **changes: Any) -> Any:
    """A model whose weights and biases are random enough to show every mistake."""
    torch.manual_seed(0)
    known = tokenizer()
    end = known.token_to_id("<|endoftext|>")
    config = transformers.WhisperConfig(
        **{
            "vocab_size": known.get_vocab_size() + TIMES,
            "d_model": WIDTH,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": HEADS,
            "decoder_attention_heads": HEADS,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 128,
            "num_mel_bins": BINS,
            "max_source_positions": frames,
            "max_target_positions": POSITIONS,
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": end,
            "decoder_start_token_id": known.token_to_id("<|startoftranscript|>"),
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
            **changes,
        }
    )
    made = transformers.WhisperForConditionalGeneration(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.15 if parameter.ndim > 1 else 0.3)
    made.tie_weights()
    made.set_attn_implementation("eager")
    return made.eval()


def write_whisper_folder(folder: Path, *, multilingual: bool = True, **changes: Any) -> Path:
    """Save a model with its tokenizer and what it says of its tokens; the folder."""
    model, known = make_whisper(**changes), tokenizer()
    folder.mkdir(parents=True)
    model.generation_config = transformers.GenerationConfig()
    model.save_pretrained(folder)
    known.save(str(folder / "tokenizer.json"))
    told: dict[str, Any] = {
        "eos_token_id": known.token_to_id("<|endoftext|>"),
        "decoder_start_token_id": known.token_to_id("<|startoftranscript|>"),
        "no_timestamps_token_id": known.token_to_id("<|notimestamps|>"),
        "prev_sot_token_id": known.token_to_id("<|startofprev|>"),
        "suppress_tokens": [1, 2, known.token_to_id("<|startofprev|>")],
        "begin_suppress_tokens": [220, known.token_to_id("<|endoftext|>")],
        "is_multilingual": multilingual,
        "alignment_heads": [[1, 0], [2, 3]],
    }
    if multilingual:
        told["lang_to_id"] = {f"<|{code}|>": known.token_to_id(f"<|{code}|>") for code in LANGUAGES}
        told["task_to_id"] = {
            task: known.token_to_id(f"<|{task}|>") for task in ("transcribe", "translate")
        }
    (folder / "generation_config.json").write_text(json.dumps(told))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder
