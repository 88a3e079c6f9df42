"""Pieces of text against decoding everything at once, over real tokenizer kinds."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from nsedge.runtime.text.detokenizer import REPLACEMENT, Detokenizer, Piece, StopFinder

WORDS = ["Ġhello", "Ġworld", "ing", "ĠÐ¿ÑĢ", "ðŁĺ", "ä½łå¥½", "ĠĠĠ"]


def byte_level() -> Tokenizer:
    """All 256 bytes, some longer tokens (one ends inside a character), two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*alphabet, *WORDS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("<tool é>", special=False)])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As SentencePiece models do it: a word marker, and byte tokens for what has no word."""
    words = ["<unk>", "▁the", "▁cat", "s", "▁", "é", "好"]
    tokens = [*words, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(tokens)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


BYTE_LEVEL, BYTE_FALLBACK = byte_level(), byte_fallback()
FIRST_BYTE_TOKEN = 7


def stream_all(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = Detokenizer(tokenizer).stream()
    return [*(stream.push(i).text for i in ids), stream.flush()]


def fallback_ids(text: str) -> list[int]:
    return [FIRST_BYTE_TOKEN + byte for byte in text.encode()]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=30))
def test_any_bytes_come_out_as_decoded_at_once(ids: list[int]) -> None:
    assert "".join(stream_all(BYTE_LEVEL, ids)) == BYTE_LEVEL.decode(ids, skip_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20).filter(lambda t: REPLACEMENT not in t))
def test_no_piece_ends_inside_a_character(text: str) -> None:
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    encode = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ids = [alphabet[c] for word, _ in encode.pre_tokenize_str(text) for c in word]
    pieces = stream_all(BYTE_LEVEL, ids)
    assert "".join(pieces) == text
    assert not any(REPLACEMENT in piece for piece in pieces)


@settings(max_examples=200, deadline=None)
@example([[4], fallback_ids("\U00010000")])
@given(
    st.lists(
        st.one_of(
            st.integers(1, FIRST_BYTE_TOKEN - 1).map(lambda i: [i]),
            st.text(min_size=1, max_size=3)
            .filter(lambda t: REPLACEMENT not in t)
            .map(fallback_ids),
        ),
        max_size=10,
    )
)
def test_other_decoders_come_out_as_decoded_at_once(groups: list[list[int]]) -> None:
    ids = [i for group in groups for i in group]
    pieces = stream_all(BYTE_FALLBACK, ids)
    assert "".join(pieces) == BYTE_FALLBACK.decode(ids, skip_special_tokens=True)
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_bytes_that_never_become_a_character_are_not_held_for_ever() -> None:
    stream = Detokenizer(BYTE_FALLBACK).stream()
    pieces = [stream.push(FIRST_BYTE_TOKEN + 0xFF).text for _ in range(40)]
    assert "".join(pieces[:20])


def test_special_tokens_have_no_text_and_others_have() -> None:
    end, tool = BYTE_LEVEL.token_to_id("<|end|>"), BYTE_LEVEL.token_to_id("<tool é>")
    assert "".join(stream_all(BYTE_LEVEL, [end, tool, end])) == "<tool é>"


@pytest.mark.parametrize(
    ("stop", "texts", "pieces", "met"),
    [
        (("END",), ["a", "bE", "N", "D", "x"], ["a", "b", "", ""], "END"),
        (("END",), ["EN", "x", "E"], ["", "ENx", ""], None),
        (("aab",), ["aaa", "b"], ["a", ""], "aab"),
        (("\n\n", "###"), ["one\n", "\ntwo"], ["one", ""], "\n\n"),
        (("bc", "abcd"), ["ab", "cd"], ["", ""], "abcd"),
        (("bc", "abcd"), ["ab", "ce"], ["", "a"], "bc"),
        (("ab", "abc"), ["xabc"], ["x"], "abc"),
    ],
)
def test_stop_strings_across_pieces(
    stop: tuple[str, ...], texts: list[str], pieces: list[str], met: str | None
) -> None:
    finder, out = StopFinder(stop), []
    for text in texts:
        out.append(finder.push(text))
        if out[-1].stop is not None:
            break
    assert [piece.text for piece in out] == pieces
    assert out[-1].stop == met


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(alphabet="abé", max_size=30),
    stop=st.lists(st.text(alphabet="abé", min_size=1, max_size=4), max_size=3).map(tuple),
    data=st.data(),
)
def test_stop_strings_cut_where_searching_the_whole_would(
    text: str, stop: tuple[str, ...], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    finder, out, met = StopFinder(stop), "", None
    for part in parts:
        piece = finder.push(part)
        out += piece.text
        if piece.stop is not None:
            met = piece.stop
            break
    else:
        out += finder.pass_by("")
    # The first stop string to be complete, reading part by part, ends the text.
    whole, ended = "", None
    for part in parts:
        whole += part
        found = [whole.find(s) for s in stop if s in whole]
        if found:
            ended = min(found)
            break
    assert out == (text if ended is None else text[:ended])
    assert (met is None) == (ended is None)


def test_stop_strings_may_be_passed_by() -> None:
    stream = Detokenizer(BYTE_LEVEL).stream(("hello",))
    hello = BYTE_LEVEL.token_to_id("Ġhello")
    assert stream.push(hello, may_stop=False) == Piece(" hello")
    assert stream.push(hello) == Piece(" ", "hello")
