"""Tokenizers small enough to be made for every test."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = 0
WORDS = ["true", "false", "null", '{"', '":', '",', "ab", "abc", "in", "int", "er"]
SIZE = 1 + 95 + len(WORDS) + 1
"""Of the vocabulary of `printable`: its end, the printable ASCII characters, words, one special."""
CALL = SIZE - 1


def letters() -> Tokenizer:
    """Byte-level, a token for each printable ASCII character; its end is token 0."""
    spelt = {chr(code): code - 0x20 + 1 for code in range(0x21, 0x7F)} | {"Ġ": 1}
    made = Tokenizer(models.BPE(vocab={"<end>": END} | spelt, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<end>", special=True)])
    return made


def printable() -> Tokenizer:
    """Byte-level, of printable ASCII and a few words; its end is token 0, `<call>` the last."""
    spelt = {chr(code): code - 0x20 + 1 for code in range(0x21, 0x7F)} | {"Ġ": 1}
    vocabulary = {"<end>": END} | spelt
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary and (word[:end] == word or word[:end] in WORDS):
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    for word in WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[m for m in merges if m[0] in vocabulary]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<end>", special=True), AddedToken("<call>")])
    return made


def falling_back() -> Tokenizer:
    """With a mark for spaces, and tokens for single bytes, as Llama 2 has them."""
    vocabulary = {"<unk>": 0, "</s>": 1}
    vocabulary |= {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    for text in ["▁", "a", "b", "{", "}", '"', ":", "▁a", "ab"]:
        vocabulary[text] = len(vocabulary)
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[("▁", "a"), ("a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("</s>", special=True)])
    return made
