"""Pairs, masks and spans as a headed encoder reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from nsedge.errors import BundleInvalid, ContextExceeded, InvalidParameter, UnsupportedTask
from nsedge.runtime.text.reader import DOCUMENTS, QUERY_FIRST
from nsedge.runtime.text.segments import MAX_MASKS, MaskReader, SegmentReader, shares

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "[", "]", "SEP", "MASK")


def tokenizer(*, pairs: bool = True) -> Tokenizer:
    made = Tokenizer(
        models.WordLevel({one: at for at, one in enumerate(TOKENS)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(TOKENS[:5]))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B:1 [SEP]:1" if pairs else "$A $B",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def reader(context: int = 20, *, pairs: bool = True) -> SegmentReader:
    return SegmentReader(tokenizer(pairs=pairs), context_length=context)


def masks(context: int = 20) -> MaskReader:
    return MaskReader(tokenizer(), mask="[MASK]", mask_id=4, context_length=context)


def test_a_text_and_where_its_tokens_lie() -> None:
    (one,) = reader().read(["a  bb c"], truncate=False)
    assert one.ids == (2, 5, 1, 7, 3)
    assert (one.begin, one.second) == (1, None)
    assert one.spans == ((0, 1), (3, 5), (6, 7))


def test_two_texts_and_where_the_second_begins() -> None:
    (one,) = reader().read([("a b", "c")], truncate=False)
    assert one.ids == (2, 5, 6, 3, 3, 7, 3)
    assert one.second == 5


def test_the_name_of_a_special_token_is_text() -> None:
    (one,) = reader().read(["[SEP]"], truncate=False)
    assert one.ids == (2, 9, 11, 10, 3)


def test_what_is_too_long_is_refused_or_cut_off() -> None:
    with pytest.raises(ContextExceeded, match="input 1 has 4 tokens; the model reads 3"):
        reader(5).read(["a", "a b c d"], truncate=False)
    (one,) = reader(5).read(["a b c d"], truncate=True)
    assert one.ids == (2, 5, 6, 7, 3)
    (two,) = reader(8).read([("a b c d", "c")], truncate=True)
    assert two.ids == (2, 5, 6, 7, 3, 3, 7, 3)


def test_documents_are_called_so() -> None:
    with pytest.raises(ContextExceeded, match=r"^document 1 with the query has 6 tokens") as told:
        reader(8).read([("a", "b"), ("a", "a b c d a")], truncate=False, naming=DOCUMENTS)
    assert told.value.param == "documents"
    names = [QUERY_FIRST.name(at) for at in range(3)]
    assert names == ["the query", "document 0", "document 1"]


def test_two_texts_need_something_between_them() -> None:
    with pytest.raises(UnsupportedTask, match="one text, not two"):
        reader(pairs=False).read([("a", "b")], truncate=False)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_the_longer_text_is_cut_first(first: int, second: int, room: int) -> None:
    a, b = shares(first, second, room)
    assert 0 <= a <= first
    assert 0 <= b <= second
    if first + second <= room:
        assert (a, b) == (first, second)
    else:
        assert a + b == room
        assert abs(a - b) <= 1 or (a, b)[first > second] == min(first, second)


def test_masks_and_where_they_are() -> None:
    (one,) = masks().read(["a [MASK] b [SEP] [MASK]"])
    assert one.ids == (2, 5, 4, 6, 9, 11, 10, 4, 3)
    assert one.places == (2, 7)


def test_a_text_has_masks_but_not_too_many() -> None:
    with pytest.raises(InvalidParameter, match=r"input 1 holds no masks; .* written \[MASK\]"):
        masks().read(["[MASK]", "a"])
    with pytest.raises(InvalidParameter, match="holds 65 masks"):
        masks(200).read(["[MASK] " * (MAX_MASKS + 1)])
    with pytest.raises(ContextExceeded, match=r"has 4 tokens; the model reads 3$"):
        masks(5).read(["a b c [MASK]"])


def test_a_mask_that_is_none_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="has no mask"):
        MaskReader(tokenizer(), mask="<mask>", mask_id=4, context_length=20)
    with pytest.raises(BundleInvalid, match="not list 'a' among its added tokens"):
        MaskReader(tokenizer(), mask="a", mask_id=5, context_length=20)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="input 0 holds a lone surrogate"):
        reader().read([("a", "\ud800")], truncate=False)
