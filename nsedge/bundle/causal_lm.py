"""The manifest of a model that writes text: one graph, the decoder, with a key and value cache."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nsedge.api import Sampling
from nsedge.api.steps import WHOLE_CONTEXT
from nsedge.bundle.fields import (
    FORMAT,
    FORMAT_VERSION,
    AnyVariant,
    Common,
    Count,
    FileEntry,
    Line,
    Name,
    Positive,
    Provenance,
    RelativePath,
    Sha256,
    Strict,
    Tokenizer,
    Variants,
)
from nsedge.errors import InvalidParameter

TOKEN_SCALE_BYTES = 2


class KvLayout(Strict, frozen=True, kw_only=True):
    """The key and value cache of every layer: `[slots, heads, capacity, width]` of `dtype`.

    Tokens lie in blocks of `block_tokens`: capacity is a multiple of it, and a prefix is copied in
    whole blocks. Where dtype is int8, cached numbers are to be multiplied by scales: each token has
    its own among them (`token_scales`, two bytes a head), or `scales` names a NumPy file of float32
    [layers, 2, heads, head_dim], keys before values.
    """

    layers: Positive
    heads: Positive
    head_dim: Positive
    dtype: Annotated[str, Meta(pattern=r"^(float32|float16|int8)\Z")] = "float32"
    block_tokens: Positive = 1
    scales: RelativePath | None = None
    token_scales: bool = False

    def __post_init__(self) -> None:
        if (self.dtype == "int8") != (self.scales is not None or self.token_scales):
            raise ValueError("a cache has scales where it is int8, and only there")

    @property
    def width(self) -> int:
        """Elements that a token takes of each head's keys, and of its values."""
        return self.head_dim + TOKEN_SCALE_BYTES * self.token_scales


class PromptIo(Strict, frozen=True, kw_only=True):
    """A second cache, float32 [1, heads, capacity, head_dim] a layer, that prompts are read with.

    - flag: bool scalar. True: attention reads and extends this cache and leaves the other alone;
      False: the reverse.
    - past_* and present_*: to be bound to the same memory.
    """

    flag: Line = "reads_prompt"
    past_key: Line = "past_prompt.{layer}.key"
    past_value: Line = "past_prompt.{layer}.value"
    present_key: Line = "present_prompt.{layer}.key"
    present_value: Line = "present_prompt.{layer}.value"


class MediaIo(Strict, frozen=True, kw_only=True):
    """Names of the inputs that put what an encoder made of media in the place of tokens.

    - embeds: float32 [M, hidden], M from 0 on.
    - positions: int64 [M, 2], where each goes: the row of the batch, and the place in it.
    - axes: that position_ids has, which then are int64 [axes, B, Q]: 1, or 3 where a token of a
      picture has a time, a row and a column.
    - blocks: where the tokens of a picture see each other: int64 [P, 2], the first and last places
      in the row of those pictures that a run's tokens are of, P from 0 on; a run that has some is
      of one row, and of all tokens of a picture that are not cached.
    """

    embeds: Line = "media_embeds"
    positions: Line = "media_positions"
    axes: Literal[1, 3] = 1
    blocks: Line | None = None


class GraphIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs; `{layer}` stands for the layer's number from 0.

    - input_ids: int64 [B, Q]; seqlens_k: int32 [B], the row's length after this call, less one;
      total_sequence_length: int32 scalar, the batch's greatest length after this call.
    - segments: int32 [S, 3], in place of those two, and B = 1: the Q tokens are of S sequences, one
      after the other; for each the row of the cache, the tokens in it, and how many are new to it.
    - kept_positions: int64 [K], which of the Q positions to give logits for.
    - position_ids: int64 [B, Q], or as `media` says; None where the graph computes positions
      itself.
    - logits: float32 [B, K, vocab_size].
    - past_* and present_*: the KV cache, to be bound to the same memory.
    - prompt: the float32 cache that prompts are read with, where the KV cache is int8.
    - media: where tokens may be pictures.
    """

    input_ids: Line = "input_ids"
    seqlens_k: Line = "seqlens_k"
    total_sequence_length: Line = "total_sequence_length"
    segments: Line | None = None
    kept_positions: Line = "logits_to_keep"
    position_ids: Line | None = None
    logits: Line = "logits"
    past_key: Line = "past_key_values.{layer}.key"
    past_value: Line = "past_key_values.{layer}.value"
    present_key: Line = "present.{layer}.key"
    present_value: Line = "present.{layer}.value"
    prompt: PromptIo | None = None
    media: MediaIo | None = None

    @property
    def position_axes(self) -> int:
        """Axes of position_ids."""
        return 1 if self.media is None else self.media.axes


class Fidelity(Strict, frozen=True, kw_only=True):
    """How near a variant is to fp32 of the same weights, teacher-forced over a text.

    kl is the mean over positions of KL(fp32 || variant) in nats; top1 the share of positions whose
    most probable token agrees; perplexity is exp of the mean negative log-likelihood.
    """

    positions: Positive
    kl: float
    top1: float
    perplexity: float
    perplexity_fp32: float
    text_sha256: Sha256


class Variant(AnyVariant, frozen=True, kw_only=True):
    """A decoder's graph for one device and precision."""

    io: GraphIo
    kv: KvLayout
    fidelity: Fidelity | None = None

    def __post_init__(self) -> None:
        if (self.kv.scales is not None) != (self.io.prompt is not None):
            raise ValueError("a graph has a prompt cache where its cache has fixed scales")


class GenerationDefaults(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling where a request says nothing; neutral values where this says nothing.

    They keep the bounds of a request's own. Neutral ones are not written, so that daemons that do
    not know a later field read a bundle that does not use it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    typical_p: float = 1.0
    penalty_last_n: int = WHOLE_CONTEXT
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        try:
            Sampling(**msgspec.structs.asdict(self)).check()
        except InvalidParameter as error:
            raise ValueError(error.message) from error


class DecoderComponents(Strict, frozen=True, kw_only=True):
    """The graphs of a model that writes text."""

    decoder: Variants[Variant]


class TextProcessors(Strict, frozen=True, kw_only=True):
    """What reads prompts."""

    tokenizer: Tokenizer
    chat_template: RelativePath | None = None
    tool_template: RelativePath | None = None
    """In its place where there are tools."""


class CausalLm(Common, frozen=True, kw_only=True, tag="causal-lm"):
    """A model that writes text."""

    components: DecoderComponents
    processors: TextProcessors
    context_length: Positive
    vocab_size: Positive
    eos_token_ids: Annotated[tuple[Count, ...], Meta(min_length=1)]
    generation_defaults: GenerationDefaults

    def __post_init__(self) -> None:
        _check_ends(self.eos_token_ids, self.vocab_size)

    @classmethod
    def made(
        cls,
        *,
        variants: tuple[Variant, ...],
        tokenizer: Tokenizer,
        chat_template: str | None,
        tool_template: str | None = None,
        golden: str,
        **fields: Any,
    ) -> CausalLm:
        """One in the format of today; `fields` are the others of this class."""
        return cls(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            components=DecoderComponents(decoder=Variants(variants=variants)),
            processors=TextProcessors(
                tokenizer=tokenizer, chat_template=chat_template, tool_template=tool_template
            ),
            golden={"generate": golden},
            **fields,
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The decoder's."""
        return self.components.decoder.variants

    @property
    def tokenizer(self) -> Tokenizer:
        """What reads prompts."""
        return self.processors.tokenizer

    @property
    def chat_template(self) -> str | None:
        """The template's file, where there is one."""
        return self.processors.chat_template

    @property
    def tool_template(self) -> str | None:
        """The file of the template for chats with tools, where they have one of their own."""
        return self.processors.tool_template

    @property
    def has_chat_template(self) -> bool:
        """Whether it can be asked with messages."""
        return self.chat_template is not None

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return text_tasks(self.has_chat_template)

    def named_files(self) -> list[str]:
        """The files that have a use, all variants' graphs among them."""
        named = [*super().named_files(), self.tokenizer.file]
        named += [v.kv.scales for v in self.variants if v.kv.scales is not None]
        return named + [name for name in (self.chat_template, self.tool_template) if name]


def _check_ends(ends: tuple[int, ...], rows: int) -> None:
    if (last := max(ends)) >= rows:
        raise ValueError(f"the end token {last} is none of the {rows} that there are logits for")


def text_tasks(has_chat_template: bool) -> tuple[str, ...]:
    """What a model that writes text can be asked for."""
    return ("generate", "chat") if has_chat_template else ("generate",)


class CausalLmV1(Strict, frozen=True, kw_only=True):
    """A manifest of format version 1, which knew no other kind."""

    format: Annotated[str, Meta(pattern=rf"^{FORMAT}\Z")]
    format_version: int
    name: Name
    kind: Annotated[str, Meta(pattern=r"^causal-lm\Z")]
    context_length: Positive
    vocab_size: Positive
    eos_token_ids: Annotated[tuple[Count, ...], Meta(min_length=1)]
    tokenizer: Tokenizer
    chat_template: RelativePath | None
    generation_defaults: GenerationDefaults
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    golden: RelativePath
    provenance: Provenance
    files: dict[RelativePath, FileEntry]

    def __post_init__(self) -> None:
        _check_ends(self.eos_token_ids, self.vocab_size)

    def current(self) -> CausalLm:
        """The same in the format of today."""
        return CausalLm.made(
            name=self.name,
            golden=self.golden,
            provenance=self.provenance,
            files=self.files,
            variants=self.variants,
            tokenizer=self.tokenizer,
            chat_template=self.chat_template,
            context_length=self.context_length,
            vocab_size=self.vocab_size,
            eos_token_ids=self.eos_token_ids,
            generation_defaults=self.generation_defaults,
        )


class GoldenPrompt(Strict, frozen=True, kw_only=True):
    """What the fp32 model continued a prompt with, greedily.

    logprobs holds the fp32 log-probability (nats) of each continuation token, teacher-forced.
    """

    text: str
    prompt_ids: tuple[Count, ...]
    continuation_ids: tuple[Count, ...]
    logprobs: tuple[float, ...]
