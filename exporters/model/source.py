"""A model folder, checked before any long work: what can never be exported is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from tokenizers import Tokenizer

from exporters.errors import ExportError, Refused
from exporters.model.advice import defaults_of, left_aside
from exporters.model.files import (
    Json,
    is_count,
    read_object,
    read_safetensors_header,
    read_text,
    shown,
    tensors_of,
)
from exporters.model.own_blocks import OwnBlocks
from exporters.model.texts import TextReader, encoded
from nsedge.bundle import vocabulary
from nsedge.bundle.causal_lm import GenerationDefaults
from nsedge.errors import BundleInvalid
from nsedge.printable import escaped

INDEX_FILE = "model.safetensors.index.json"
LINEAGE_FILE = "lineage.json"
"""What `merge` tells of a base model and the adapters in it."""
LICENCE_FILE = "LICENSE"
TOOL_TEMPLATE = "additional_chat_templates/tool_use.jinja"
SMALL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", TOOL_TEMPLATE, "README.md", LICENCE_FILE, LINEAGE_FILE),
)
"""All that a bundle takes from a model folder, but for the weights."""
CAUSAL_SUFFIXES = ("ForCausalLM", "LMHeadModel")
HEAD_STEP = 8
"""GroupQueryAttention takes head sizes in these steps."""
MOST_TOKENS = 1 << 31
SIZES = (
    *("num_attention_heads", "n_head", "hidden_size", "n_embd", "head_dim", "vocab_size"),
    *("max_position_embeddings", "n_positions", "num_hidden_layers", "n_layer"),
)
"""Keys of config.json that are counts, where they are there."""
LICENCES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}
UNKNOWN_LICENCE = "unknown"
TOKENIZER_SETTINGS = "tokenizer_config.json"
CLASS_NAME = re.compile(r"[A-Za-z]\w{0,127}", re.ASCII)
SHARD_NAME = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model folder in the Hugging Face layout. `origin` is what people know it by.

    `tokenizer` is a file in the place of the folder's own, without the tokens `surplus`.
    """

    folder: Path
    origin: str
    revision: str | None = None
    tokenizer: Path | None = None
    surplus: tuple[str, ...] = ()

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
        return self.tokenizer or self.folder / "tokenizer.json"

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors files that make up the model.

        Raises:
            Refused: there are none, or one is missing.
        """
        index = self.folder / INDEX_FILE
        names = shards_of(index) if index.is_file() else ["model.safetensors"]
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
        bos = self._token_text("bos_token")
        return TextReader(
            tokenizer=tokenizer,
            template=self.chat_template(),
            bos_token=bos,
            eos_token=self._token_text("eos_token"),
            add_bos=adds_bos(tokenizer, bos),
            ends=tuple(filter(None, map(tokenizer.id_to_token, self._stated_ends()))),
            unk_token=self._token_text("unk_token"),
            pad_token=self._token_text("pad_token"),
        )

    def chat_template(self) -> str | None:
        """chat_template.jinja, else the default one of tokenizer_config.json.

        Raises:
            ExportError: it is no text.
        """
        return self._template(self.folder / "chat_template.jinja", "default")

    def tool_template(self) -> str | None:
        """additional_chat_templates/tool_use.jinja, else that one of tokenizer_config.json, which
        is the template for chats with tools.

        Raises:
            ExportError: it is no text.
        """
        return self._template(self.folder / TOOL_TEMPLATE, "tool_use")

    def _template(self, path: Path, name: str) -> str | None:
        if path.is_file():
            return read_text(path)
        template = self.tokenizer_config.get("chat_template")
        if isinstance(template, list):
            entries = [entry for entry in template if isinstance(entry, dict)]
            named = {str(entry.get("name")): entry.get("template") for entry in entries}
            template = named.get(name)
        elif name != "default":
            return None
        if template is not None and not isinstance(template, str):
            raise Refused(f"{self.folder / TOKENIZER_SETTINGS}: chat_template is no text")
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
        file, stated = "generation_config.json", self.generation.get("eos_token_id")
        if "eos_token_id" not in self.generation:
            file, stated = "config.json", self.config.get("eos_token_id")
        ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
        if not all(is_count(number) and number < MOST_TOKENS for number in ids):
            raise Refused(f"{self.folder / file}: eos_token_id must be token ids, not {shown(ids)}")
        return ids

    def defaults(self) -> GenerationDefaults:
        """The sampling that the model's makers advise.

        Raises:
            Refused: a value is out of a request's own bounds; key, value and bounds are named.
        """
        return defaults_of(self.generation, str(self.folder / "generation_config.json"))

    def notes(self) -> tuple[str, ...]:
        """What of the source is left aside that changes answers, or tokens."""
        aside = left_aside(self.generation)
        told = [f"not followed here: the makers' advice {', '.join(aside)}"] if aside else []
        if self.surplus:
            names = ", ".join(map(shown, self.surplus))
            told.append(f"left out of the tokenizer, as there are no rows for them: {names}")
        return tuple(told)

    def licence(self) -> str:
        """As the model card's head states it, control characters escaped."""
        card = self.folder / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        stated = re.search(r"^license:\s*(\S+)", head.group(1), re.MULTILINE) if head else None
        if stated is None:
            return UNKNOWN_LICENCE
        name = stated.group(1).strip("'\"")
        return LICENCES.get(name, escaped(name))

    @property
    def keeps_blocks(self) -> bool:
        """Whether `own_blocks` gives any."""
        return False

    def own_blocks(self, weight: str) -> tuple[OwnBlocks, ...]:
        """The blocks that the source itself keeps a weight of its fp32 graph in: a matrix [N, K],
        in its parts along N. Nothing where it keeps it in none."""
        return ()

    def parameters(self) -> int:
        """Numbers in the weight files.

        Raises:
            Refused: there are none.
            ExportError: one is cut short.
        """
        headers = map(read_safetensors_header, self.weight_files)
        return sum(prod(entry["shape"]) for header in headers for _, entry in tensors_of(header))

    def check(self) -> None:
        """Refuse what the folder itself shows to be impossible.

        Raises:
            Refused: with the reason.
        """
        self.check_architecture()
        if "quantization_config" in self.config:
            raise Refused(
                f"{self.folder}: the weights are quantised already; use the original ones"
            )
        _check_sizes(self.config, self.folder / "config.json")
        if not self.tokenizer_file.is_file():
            raise Refused(f"{self.folder}: no tokenizer.json; save the fast tokenizer there")
        self.parameters()
        self.defaults()
        reader, rows = self.text_reader(), self.config.get("vocab_size")
        self.eos_ids(reader)
        if is_count(rows):
            self._check_rows(reader, rows)

    def check_architecture(self) -> None:
        """Refuse what is no causal LM.

        Raises:
            Refused: with the reason.
        """
        architecture = self.architecture()
        if self.config.get("is_encoder_decoder"):
            raise Refused(f"{architecture} is an encoder-decoder; only causal LMs are exported")
        if not architecture.endswith(CAUSAL_SUFFIXES):
            raise Refused(f"{architecture} is no causal LM; only those are exported")

    def check_vocabulary(self, rows: int) -> None:
        """Hold the tokenizer, and what ends a text, to the `rows` that the model's embedding has.

        Raises:
            Refused: the tokenizer knows a token that there is no row for.
        """
        self._check_rows(self.text_reader(), rows)

    def _check_rows(self, reader: TextReader, rows: int) -> None:
        if reason := vocabulary.tokens_without_row(reader.tokenizer, rows):
            raise Refused(
                f"{self.folder}: {reason}: a request with such a token could not be run; give the"
                " embedding rows for them, or leave them out (--drop-surplus-tokens, if they were"
                " added to the vocabulary)"
            )
        if (last := max(self.eos_ids(reader))) >= rows:
            raise Refused(f"{self.folder}: the end token {last} has no row among {rows}")

    def architecture(self) -> str:
        """The class of the model.

        Raises:
            Refused: config.json does not tell.
        """
        named, path = self.config.get("architectures"), self.folder / "config.json"
        if not named:
            raise Refused(f"{path}: no architectures; which model is it?")
        if not isinstance(named, list) or not CLASS_NAME.fullmatch(str(named[0])):
            raise Refused(f"{path}: architectures are no names: {shown(named)}")
        return str(named[0])

    def _token_text(self, name: str) -> str | None:
        """A special token: it is written as text, or as a record that holds it."""
        token = self.tokenizer_config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if text is not None and not isinstance(text, str):
            path = self.folder / TOKENIZER_SETTINGS
            raise Refused(f"{path}: {name} must be a text, not {shown(token)}")
        return text


def shards_of(index: Path) -> list[str]:
    """The files that an index of weights names.

    Raises:
        Refused: it names none, or one elsewhere.
    """
    named = read_object(index).get("weight_map")
    names = list(named.values()) if isinstance(named, dict) else []
    for name in names or [None]:
        if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
            raise Refused(f"{index}: a weight is in no file beside it: {shown(name)}")
    return sorted(set(names))


def adds_bos(tokenizer: Tokenizer, bos: str | None) -> bool:
    """Whether the tokenizer's post-processor begins a plain text with `bos`.

    Raises:
        Refused: it adds something else.
    """
    with_special = encoded(tokenizer, "a", add_special_tokens=True)
    without = encoded(tokenizer, "a", add_special_tokens=False)
    if with_special == without:
        return False
    if bos is not None and with_special == [tokenizer.token_to_id(bos), *without]:
        return True
    added = [tokenizer.id_to_token(i) for i in with_special if i not in without]
    raise Refused(
        f"the tokenizer puts {shown(added)} around a text; only a bos_token before it is known"
    )


def read_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json.

    Raises:
        ExportError: it is not one.
    """
    try:
        return vocabulary.read_tokenizer(path)
    except BundleInvalid as error:
        raise ExportError(error.message) from error


def _check_sizes(config: Json, path: Path) -> None:
    for name in SIZES:
        number = config.get(name)
        if number is not None and not (is_count(number) and number > 0):
            raise Refused(f"{path}: {name} must be a whole number above 0, not {shown(number)}")
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
