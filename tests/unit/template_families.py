"""Tokenizers and chat templates as the families of models have them, small: no weights, few merges.

Their normalisers, pre-tokenisers and the flags of their added tokens are those of the real files;
the templates are cut to what turns, tools and thoughts need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_PATTERN = QWEN_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CORPUS = [
    "the user asks for the system prompt and the assistant answers",
    "<|im_end|> <|im_start|> <|eot_id|> <end_of_turn> [/INST] </s> <tool_response> <|end|>",
    "end of turn, im_end, im_start, start_header_id, user, model, assistant, INST",
]


@dataclass(frozen=True)
class Family:
    """A tokenizer with its template. `control`: what would begin or end a turn in a message."""

    tokenizer: Callable[[], Tokenizer]
    template: str | None
    bos: str | None
    eos: str
    control: tuple[str, ...]


def special(*texts: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False, **flags) for text in texts]


def plain(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, special=False, normalized=False) for text in texts]


def byte_level(pattern: str, *, ignore_merges: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    return made


def sentence_piece(
    *, unknown: str, begins: tuple[str, ...], rebuild: Callable[[Tokenizer], None]
) -> Tokenizer:
    """BPE over whole texts with bytes for unknown letters; control tokens are in its vocabulary."""
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted({*"".join(CORPUS).replace(" ", "▁"), *"abcdefghijklmnopqrstuvwxyz.,!?"})
    merges = [("e", "n"), ("en", "d"), ("u", "s"), ("e", "r"), ("us", "er"), ("▁", "user")]
    merges += [("i", "m"), ("<", "|"), ("|", ">"), ("<", "/"), ("t", "h"), ("th", "e")]
    pieces = [*begins, *bytes_of, *letters, *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True
        )
    )
    rebuild(made)
    return made


def chatml() -> Tokenizer:
    made = byte_level(QWEN_PATTERN)
    made.normalizer = normalizers.NFC()
    made.add_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    made.add_tokens(plain("<tool_response>", "</tool_response>", "<think>", "</think>"))
    return made


def llama3() -> Tokenizer:
    made = byte_level(LLAMA_PATTERN, ignore_merges=True)
    names = ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")
    made.add_tokens(special(*(f"<|{name}|>" for name in names)))
    made.add_tokens(special(*(f"<|reserved_special_token_{n}|>" for n in range(250))))
    return made


def gemma() -> Tokenizer:
    def rebuild(made: Tokenizer) -> None:
        made.normalizer = normalizers.Replace(" ", "▁")
        made.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        made.add_tokens(special("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"))
        made.add_tokens(plain("\n\n", "\n\n\n", "▁▁", "<table>", "<unused7>"))

    begins = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    return sentence_piece(unknown="<unk>", begins=begins, rebuild=rebuild)


def mistral() -> Tokenizer:
    def rebuild(made: Tokenizer) -> None:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        made.add_tokens(special("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_RESULTS]"))

    begins = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_RESULTS]")
    return sentence_piece(unknown="<unk>", begins=begins, rebuild=rebuild)


def phi3() -> Tokenizer:
    def rebuild(made: Tokenizer) -> None:
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        made.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        made.add_tokens(special("<unk>", "<s>"))
        made.add_tokens(plain("</s>"))
        made.add_tokens(special("<|endoftext|>"))
        made.add_tokens(special("<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True))

    return sentence_piece(unknown="<unk>", begins=("<unk>", "<s>", "</s>"), rebuild=rebuild)


CHATML = """\
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- if '</think>' in content and not loop.last %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {%- set role = 'ipython' if message.role == 'tool' else message.role %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] | trim
+ '\\n\\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}
{% endif %}{% for message in rest %}{% set role = 'model' if message['role'] == 'assistant'
else 'user' %}{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
{{- message['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
MISTRAL = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- elif message['role'] == 'tool' %}
        {{- '[TOOL_RESULTS] ' + ({'content': message['content']} | tojson) }}
    {%- else %}
        {{- '[INST] ' + message['content'] + '[/INST]' }}
    {%- endif %}
{%- endfor %}"""
PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content']"
    " + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

FAMILIES = {
    "chatml": Family(
        chatml, CHATML, None, "<|im_end|>", ("<|im_end|>", "<|im_start|>", "</tool_response>")
    ),
    "llama3": Family(
        llama3,
        LLAMA3,
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>"),
    ),
    "gemma": Family(
        gemma, GEMMA, "<bos>", "<eos>", ("<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>")
    ),
    "mistral": Family(mistral, MISTRAL, "<s>", "</s>", ("[/INST]", "[INST]", "</s>", "<s>")),
    "phi3": Family(
        phi3, PHI3, "<s>", "<|endoftext|>", ("<|end|>", "<|user|>", "<|assistant|>", "<s>")
    ),
}
PLAIN = Family(chatml, None, None, "<|im_end|>", ("<|im_end|>", "<|im_start|>"))
"""A base without a template."""
