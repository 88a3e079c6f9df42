"""A model folder, checked before any long work: what can never be exported is refused here."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from exporters.errors import ExportError, Refused
from exporters.model.texts import TextReader
from nsedge.bundle.causal_lm import GenerationDefaults

INDEX_FILE = "model.safetensors.index.json"
LINEAGE_FILE = "lineage.json"
"""What `merge` tells of a base model and the adapters in it."""
LICENCE_FILE = "LICENSE"
SMALL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "README.md", LICENCE_FILE, LINEAGE_FILE),
)
"""All that a bundle takes from a model folder, but for the weights."""
CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
HEAD_STEP = 8
"""GroupQueryAttention takes head sizes in these steps."""
LICENCES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}
UNKNOWN_LICENCE = "unknown"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model folder in the Hugging Face layout. `origin` is what people know it by."""

    folder: Path
    origin: str
    revision: str | None = None

    @cached_property
    def config(self) -> Json:
        """config.json."""
        return read_object(self.folder / "config.json")

    @cached_property
    def generation(self) -> Json:
        """generation_config.json, or nothing."""
        path = self.folder / "generation_config.json"
        return read_object(path) if path.is_file() else {}

    @cached_property
    def tokenizer_config(self) -> Json:
        """tokenizer_config.json, or nothing."""
        path = self.folder / "tokenizer_config.json"
        return read_object(path) if path.is_file() else {}

    @property
    def tokenizer_file(self) -> Path:
        """tokenizer.json."""
        return self.folder / "tokenizer.json"

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors files that make up the model.

        Raises:
            Refused: there are none, or one is missing.
        """
        index = self.folder / INDEX_FILE
        if index.is_file():
            names = sorted(set(read_object(index).get("weight_map", {}).values()))
        else:
            names = ["model.safetensors"]
        files = [self.folder / name for name in names]
        for file in files:
            if not file.is_file():
                raise Refused(_missing_weights(self.folder, file))
        return files

    def text_reader(self) -> TextReader:
        """The tokenizer with what goes around a text.

        Raises:
            Refused: the tokenizer adds tokens that a bundle cannot tell of.
        """
        tokenizer = read_tokenizer(self.tokenizer_file)
        bos = _token_text(self.tokenizer_config.get("bos_token"))
        return TextReader(
            tokenizer=tokenizer,
            template=self.chat_template(),
            bos_token=bos,
            eos_token=_token_text(self.tokenizer_config.get("eos_token")),
            add_bos=adds_bos(tokenizer, bos),
            ends=tuple(filter(None, map(tokenizer.id_to_token, self._stated_ends()))),
        )

    def chat_template(self) -> str | None:
        """chat_template.jinja, else the default one of tokenizer_config.json."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        template = self.tokenizer_config.get("chat_template")
        if isinstance(template, list):
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default")
        return template

    def eos_ids(self, reader: TextReader) -> tuple[int, ...]:
        """Every id that ends a text: generation config or config, and the tokenizer's own.

        Raises:
            Refused: none is known.
        """
        ids = self._stated_ends()
        own = reader.tokenizer.token_to_id(reader.eos_token) if reader.eos_token else None
        if own is not None and own not in ids:
            ids.append(own)
        if not ids:
            raise Refused(
                f"{self.folder}: no end-of-sequence token; set eos_token_id in config.json"
            )
        return tuple(ids)

    def _stated_ends(self) -> list[int]:
        stated = self.generation.get("eos_token_id", self.config.get("eos_token_id"))
        ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
        return [int(number) for number in ids]

    def defaults(self) -> GenerationDefaults:
        """The sampling that the model's makers advise."""
        names = GenerationDefaults.__struct_fields__
        told = {name: self.generation.get(name) for name in names}
        return GenerationDefaults(**{name: v for name, v in told.items() if v is not None})

    def licence(self) -> str:
        """As the model card's head states it."""
        card = self.folder / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        stated = re.search(r"^license:\s*(\S+)", head.group(1), re.MULTILINE) if head else None
        if stated is None:
            return UNKNOWN_LICENCE
        name = stated.group(1).strip("'\"")
        return LICENCES.get(name, name)

    def parameters(self) -> int:
        """Numbers in the weight files.

        Raises:
            Refused: there are none.
            ExportError: one is cut short.
        """
        total = 0
        for file in self.weight_files:
            for name, entry in read_safetensors_header(file).items():
                if name != "__metadata__":
                    total += _product(entry["shape"])
        return total

    def check(self) -> None:
        """Refuse what the folder itself shows to be impossible.

        Raises:
            Refused: with the reason.
        """
        architecture = self.architecture()
        if self.config.get("is_encoder_decoder"):
            raise Refused(f"{architecture} is an encoder-decoder; only causal LMs are exported")
        if not architecture.endswith(CAUSAL_SUFFIXES):
            raise Refused(f"{architecture} is no causal LM; only those are exported")
        if "quantization_config" in self.config:
            raise Refused(
                f"{self.folder}: the weights are quantised already; use the original ones"
            )
        _check_head_size(self.config)
        if not self.tokenizer_file.is_file():
            raise Refused(f"{self.folder}: no tokenizer.json; save the fast tokenizer there")
        self.parameters()
        self.eos_ids(self.text_reader())

    def architecture(self) -> str:
        """The class of the model.

        Raises:
            Refused: config.json does not tell.
        """
        named = self.config.get("architectures")
        if not named:
            raise Refused(f"{self.folder / 'config.json'}: no architectures; which model is it?")
        return str(named[0])


def adds_bos(tokenizer: Tokenizer, bos: str | None) -> bool:
    """Whether the tokenizer's post-processor begins a plain text with `bos`.

    Raises:
        Refused: it adds something else.
    """
    with_special = tokenizer.encode("a").ids
    without = tokenizer.encode("a", add_special_tokens=False).ids
    if with_special == without:
        return False
    if bos is not None and with_special == [tokenizer.token_to_id(bos), *without]:
        return True
    added = [tokenizer.id_to_token(i) for i in with_special if i not in without]
    raise Refused(f"the tokenizer puts {added} around a text; only a bos_token before it is known")


def read_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json.

    Raises:
        ExportError: it is not one.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ExportError(f"{path}: {error}") from error


def read_safetensors_header(path: Path) -> Json:
    """Names, types and shapes of the tensors in a file; checks that all its bytes are there.

    Raises:
        ExportError: it is cut short or not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ExportError(f"{path} is cut short or no safetensors file; fetch it again")
            header: Json = json.loads(file.read(length))
        ends = [e["data_offsets"][1] for name, e in header.items() if name != "__metadata__"]
    except (OSError, struct.error, ValueError, RecursionError) as error:
        raise ExportError(f"{path} is no safetensors file: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ExportError(f"{path} is no safetensors file: its header lists no tensors") from error
    if path.stat().st_size != 8 + length + max(ends, default=0):
        raise ExportError(f"{path} is cut short; fetch it again")
    return header


def _check_head_size(config: Json) -> None:
    heads = config.get("num_attention_heads", config.get("n_head"))
    hidden = config.get("hidden_size", config.get("n_embd"))
    size = config.get("head_dim") or (hidden // heads if heads and hidden else None)
    if size is not None and size % HEAD_STEP:
        raise Refused(
            f"head size {size} is no multiple of {HEAD_STEP}, as GroupQueryAttention needs"
        )


def _missing_weights(folder: Path, file: Path) -> str:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return f"{folder}: only pickled weights, which can run code; save them as safetensors"
    return f"{file}: missing weights"


def _token_text(token: Any) -> str | None:
    """Special tokens are written as text, or as a record that holds it."""
    return token.get("content") if isinstance(token, dict) else token


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def read_object(path: Path) -> Json:
    """The JSON object in a file.

    Raises:
        ExportError: it cannot be read, or is no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise ExportError(f"{path}: no JSON: {error}") from error
    except RecursionError as error:
        raise ExportError(f"{path}: it nests too deep") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path}: not a JSON object")
    return content
