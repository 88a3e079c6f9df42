"""What the folder of a Whisper model says: its sizes, and the tokens that have a meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from exporters.errors import Refused
from exporters.model.conditioned import DecoderShape
from exporters.model.files import Json, is_count, shown
from exporters.model.source import Source, read_tokenizer
from nsedge.bundle.speech import SpeechTokens
from nsedge.bundle.vocabulary import tokens_without_row

ARCHITECTURE = "WhisperForConditionalGeneration"
SIZES = (
    *("d_model", "num_mel_bins", "encoder_layers", "decoder_layers", "encoder_attention_heads"),
    *("decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim", "max_source_positions"),
    *("max_target_positions", "vocab_size"),
)
HEAD_MULTIPLE = 16
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>", re.ASCII)
MULTILINGUAL_ROWS = 51865
"""Of the vocabularies of models of several languages, at least."""
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


@dataclass(frozen=True, kw_only=True)
class SpeechShape:
    """Sizes of a Whisper model. `frames`: of the encoder's output, half as many as its input's."""

    width: int
    bins: int
    frames: int
    positions: int
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int

    @property
    def decoder(self) -> DecoderShape:
        """Those of the decoder."""
        return DecoderShape(
            layers=self.decoder_layers,
            heads=self.decoder_heads,
            head_size=self.width // self.decoder_heads,
            positions=self.positions,
            vocabulary=self.vocabulary,
            frames=self.frames,
        )


def is_speech(source: Source) -> bool:
    """Whether the folder is to be exported as a speech model."""
    return source.config.get("model_type") == "whisper"


def read_speech_shape(source: Source) -> SpeechShape:
    """The sizes in a folder's config.json, before any weight is read.

    Raises:
        Refused: naming what cannot be exported.
        ExportError: a file is missing or damaged.
    """
    config, path = source.config, source.folder / "config.json"
    if source.architecture() != ARCHITECTURE:
        raise Refused(f"{source.architecture()} is no {ARCHITECTURE}; only that writes text")
    for key in SIZES:
        if not is_count(config.get(key)) or not config[key]:
            told = shown(config.get(key))
            raise Refused(f"{path}: {key} must be a whole number above 0, not {told}")
    for side in ("encoder", "decoder"):
        heads = config[f"{side}_attention_heads"]
        if config["d_model"] % (heads * HEAD_MULTIPLE):
            raise Refused(f"{path}: {heads} heads of {side} are not of a multiple of 16 numbers")
    if (activation := config.get("activation_function", "gelu")) != "gelu":
        raise Refused(f"the activation {shown(activation)} has no form here; known is gelu")
    if config.get("scale_embedding") or not config.get("tie_word_embeddings", True):
        raise Refused(f"{path}: scaled embeddings, or a head of its own, have no form here")
    if "quantization_config" in config:
        raise Refused(f"{source.folder}: the weights are quantised already; use the original ones")
    if not source.tokenizer_file.is_file():
        raise Refused(f"{source.folder}: no tokenizer.json; save the fast tokenizer there")
    source.parameters()
    return SpeechShape(
        width=config["d_model"],
        bins=config["num_mel_bins"],
        frames=config["max_source_positions"],
        positions=config["max_target_positions"],
        vocabulary=config["vocab_size"],
        encoder_layers=config["encoder_layers"],
        decoder_layers=config["decoder_layers"],
        encoder_heads=config["encoder_attention_heads"],
        decoder_heads=config["decoder_attention_heads"],
    )


def read_tokens(source: Source, shape: SpeechShape) -> SpeechTokens:
    """The tokens with a meaning, from generation_config.json, config.json and the tokenizer.

    Raises:
        Refused: one is missing, or the tokenizer knows tokens that the model has no row for.
        ExportError: a file is damaged.
    """
    tokenizer = read_tokenizer(source.tokenizer_file)
    if reason := tokens_without_row(tokenizer, shape.vocabulary):
        raise Refused(f"{source.folder}: {reason}")
    reading = _Reading(source, shape, tokenizer)
    no_timestamps = reading.named("no_timestamps_token_id", "<|notimestamps|>")
    return SpeechTokens(
        end=reading.named("eos_token_id", "<|endoftext|>"),
        start=reading.named("decoder_start_token_id", "<|startoftranscript|>"),
        start_of_previous=reading.named("prev_sot_token_id", "<|startofprev|>"),
        no_speech=reading.one_of(NO_SPEECH, otherwise=no_timestamps - 1),
        no_timestamps=no_timestamps,
        first_timestamp=no_timestamps + 1,
        suppressed=reading.several("suppress_tokens"),
        suppressed_first=reading.several("begin_suppress_tokens"),
        **reading.tasks(),
    )


def read_alignment_heads(source: Source, shape: SpeechShape) -> tuple[tuple[int, int], ...]:
    """Layers and heads whose attention follows the sound; where the folder does not say, all heads
    of the latter half of the layers, as Whisper's makers do.

    Raises:
        Refused: they are no such thing.
    """
    stated = source.generation.get("alignment_heads")
    if not stated:
        layers = range(shape.decoder_layers // 2, shape.decoder_layers)
        return tuple((layer, head) for layer in layers for head in range(shape.decoder_heads))
    heads = [tuple(pair) if isinstance(pair, list) else () for pair in stated]
    bounds = shape.decoder_layers, shape.decoder_heads
    for pair in heads:
        if len(pair) != 2 or not all(
            is_count(number) and number < bound for number, bound in zip(pair, bounds, strict=True)
        ):
            raise Refused(f"{source.folder}: alignment_heads are no layers and heads")
    return tuple((layer, head) for layer, head in heads)


class _Reading:
    def __init__(self, source: Source, shape: SpeechShape, tokenizer: Tokenizer) -> None:
        self._source = source
        self._rows = shape.vocabulary
        self._tokenizer = tokenizer

    def named(self, key: str, text: str) -> int:
        """A token as a configuration has it under `key`, else that of a text."""
        stated = self._stated(key)
        stated = stated[0] if isinstance(stated, list) and stated else stated
        return self._checked(key, self._tokenizer.token_to_id(text) if stated is None else stated)

    def one_of(self, texts: tuple[str, ...], *, otherwise: int) -> int:
        """The token of the first of the texts that there is."""
        found = (self._tokenizer.token_to_id(text) for text in texts)
        return next((int(one) for one in found if one is not None), otherwise)

    def several(self, key: str) -> tuple[int, ...]:
        """Tokens of a list; negative ones stand for nothing."""
        stated = self._stated(key) or []
        if not isinstance(stated, list):
            raise Refused(f"{self._source.folder}: {key} must be token ids, not {shown(stated)}")
        numbers = [one for one in stated if not (isinstance(one, int) and one < 0)]
        return tuple(self._checked(key, number) for number in numbers)

    def tasks(self) -> Json:
        """Fields of `SpeechTokens` that a model of one language has none of."""
        languages = self._languages()
        if len(languages) < 2:
            return {}
        stated = self._stated("task_to_id")
        of_task = stated if isinstance(stated, dict) else {}
        tasks = {
            task: self._checked(
                task, of_task.get(task) or self._tokenizer.token_to_id(f"<|{task}|>")
            )
            for task in ("transcribe", "translate")
        }
        return {"languages": languages, **tasks}

    def _languages(self) -> dict[str, int]:
        if self._stated("is_multilingual") is False:
            return {}
        stated = self._stated("lang_to_id")
        if not isinstance(stated, dict):
            added = self._tokenizer.get_added_tokens_decoder()
            stated = {token.content: number for number, token in added.items()}
            if self._stated("is_multilingual") is None and not self._has_many():
                return {}
        named = {LANGUAGE.fullmatch(str(text)): number for text, number in stated.items()}
        return {
            match[1]: self._checked("lang_to_id", number)
            for match, number in named.items()
            if match is not None
        }

    def _has_many(self) -> bool:
        """Whether the model is one of several languages, by the number of its tokens: the
        tokenizers of both name the languages."""
        return self._rows >= MULTILINGUAL_ROWS

    def _stated(self, key: str) -> Any:
        found = self._source.generation.get(key)
        return self._source.config.get(key) if found is None else found

    def _checked(self, key: str, number: Any) -> int:
        if not is_count(number) or number >= self._rows:
            path: Path = self._source.folder
            raise Refused(f"{path}: {key} must be a token's id below {self._rows}, not {number!r}")
        return number
