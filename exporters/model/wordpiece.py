"""A tokenizer.json of a vocabulary in lines, which is all that older BERT folders have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import Refused
from exporters.model.files import read_text, shown
from exporters.model.source import TOKENIZER_SETTINGS, Source
from nsedge.bundle.files import sha256_of

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN, BEGIN, END = "[UNK]", "[CLS]", "[SEP]"
FAMILIES = ("bert", "distilbert", "electra")
"""By model_type, those whose vocab.txt is one of word pieces between BERT's special tokens."""


def with_tokenizer_file(source: Source, cache: Cache) -> Source:
    """`source` with a tokenizer.json made of its vocab.txt; itself where it has one, or where no
    such file is to be made.

    Raises:
        Refused: the vocabulary lacks a special token, or the settings are not what they should be.
        ExportError: a file cannot be read.
    """
    vocabulary = source.folder / VOCABULARY_FILE
    known = source.config.get("model_type") in FAMILIES
    if source.tokenizer_file.is_file() or not vocabulary.is_file() or not known:
        return source
    lowercase = lowers(source.tokenizer_config.get("do_lower_case"), source.folder)

    def make(folder: Path) -> None:
        word_pieces(vocabulary, lowercase=lowercase).save(str(folder / TOKENIZER_FILE))

    inputs = {
        "vocabulary": sha256_of(vocabulary),
        "lowercase": lowercase,
        "code": code_digest(__name__),
    }
    folder = cache.get("tokenizer", inputs, title="Making tokenizer.json of vocab.txt", make=make)
    return replace(source, tokenizer=folder / TOKENIZER_FILE)


def lowers(stated: object, folder: Path, *, unsaid: bool = True) -> bool:
    """Whether letters are lowered, as tokenizer_config.json states it.

    Raises:
        Refused: it states no such thing.
    """
    if stated is None:
        return unsaid
    if not isinstance(stated, bool):
        path = folder / TOKENIZER_SETTINGS
        raise Refused(f"{path}: do_lower_case must be true or false, not {shown(stated)}")
    return stated


def word_pieces(vocabulary: Path, *, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer over the tokens in the lines of a file.

    Raises:
        Refused: a special token is missing.
        ExportError: the file cannot be read.
    """
    lines = read_text(vocabulary).rstrip("\n").split("\n")
    ids = {token.rstrip("\r"): at for at, token in enumerate(lines)}
    for token in SPECIAL:
        if token not in ids:
            raise Refused(f"{vocabulary}: no token {token}")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN}:0 $A:0 {END}:0",
        pair=f"{BEGIN}:0 $A:0 {END}:0 $B:1 {END}:1",
        special_tokens=[(BEGIN, ids[BEGIN]), (END, ids[END])],
    )
    return tokenizer
