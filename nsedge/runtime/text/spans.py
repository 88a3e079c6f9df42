"""Labels of tokens to labelled spans, as the token classification pipeline of transformers joins
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from nsedge.api import Aggregation, Label
from nsedge.runtime.text.segments import Reading

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """A token that was said: its text, scores [labels], and whether it goes on with a word."""

    word: str
    scores: Floats
    start: int
    end: int
    index: int
    continues: bool


class SpanFinder:
    """Finds spans in the logits of a text's tokens."""

    def __init__(
        self, tokenizer: Tokenizer, *, labels: Sequence[str], outside: str, unknown: str | None
    ) -> None:
        """`outside`: the label that is not told; `unknown`: the token of words that are not known,
        which never goes on with another."""
        self._tokenizer = tokenizer
        self._labels = labels
        self._outside = outside
        self._unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)
        model = tokenizer.model
        self._knows_words = bool(getattr(model, "continuing_subword_prefix", None))

    def find(
        self, text: str, reading: Reading, logits: Floats, aggregation: Aggregation
    ) -> tuple[Label, ...]:
        """The spans in `text`, of logits [tokens, labels]."""
        tokens = self._tokens(text, reading, softmax(logits))
        if aggregation in (Aggregation.NONE, Aggregation.SIMPLE):
            found = [self._alone(token) for token in tokens]
        else:
            found = [self._word(word, aggregation) for word in _words(tokens)]
        if aggregation is not Aggregation.NONE:
            found = [self._joined(group) for group in _groups(found)]
        return tuple(one for one in found if one.label != self._outside)

    def _tokens(self, text: str, reading: Reading, scores: Floats) -> list[_Token]:
        tokens = []
        for at, (start, end) in enumerate(reading.spans, reading.begin):
            word, said = self._tokenizer.id_to_token(reading.ids[at]), text[start:end]
            if self._knows_words:
                continues = len(word) != len(said)
            else:
                continues = start > 0 and " " not in text[start - 1 : start + 1]
            if reading.ids[at] == self._unknown_id:
                word, continues = said, False
            tokens.append(
                _Token(
                    word=word,
                    scores=scores[at],
                    start=start,
                    end=end,
                    index=at,
                    continues=continues,
                )
            )
        return tokens

    def _alone(self, token: _Token) -> Label:
        best = int(token.scores.argmax())
        return Label(
            label=self._labels[best],
            score=float(token.scores[best]),
            start=token.start,
            end=token.end,
            word=token.word,
            index=token.index,
        )

    def _word(self, tokens: Sequence[_Token], aggregation: Aggregation) -> Label:
        """One label for the tokens of a word."""
        if aggregation is Aggregation.FIRST:
            scores = tokens[0].scores
        elif aggregation is Aggregation.MAX:
            scores = max((token.scores for token in tokens), key=lambda scores: scores.max())
        else:
            scores = np.nanmean(np.stack([token.scores for token in tokens]), axis=0)
        best = int(scores.argmax())
        return Label(
            label=self._labels[best],
            score=float(scores[best]),
            start=tokens[0].start,
            end=tokens[-1].end,
            word=self._text_of([token.word for token in tokens]),
        )

    def _joined(self, group: Sequence[Label]) -> Label:
        """Neighbours of one label as one span, which is called by what is behind B- or I-."""
        return Label(
            label=group[0].label.split("-", 1)[-1],
            score=float(np.nanmean(np.array([one.score for one in group], np.float32))),
            start=group[0].start,
            end=group[-1].end,
            word=self._text_of([one.word or "" for one in group]),
        )

    def _text_of(self, words: list[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(words) if decoder is None else str(decoder.decode(words))


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)


def _words(tokens: Sequence[_Token]) -> list[list[_Token]]:
    words: list[list[_Token]] = []
    for token in tokens:
        if token.continues and words:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _groups(found: Sequence[Label]) -> list[list[Label]]:
    """Neighbours that go together: of one label, unless the later one begins a span."""
    groups: list[list[Label]] = []
    for one in found:
        begins, name = _parts(one.label)
        if groups and not begins and name == _parts(groups[-1][-1].label)[1]:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _parts(label: str) -> tuple[bool, str]:
    """Whether a label begins a span, and what the span is called."""
    if label[:2] in ("B-", "I-"):
        return label[0] == "B", label[2:]
    return False, label
