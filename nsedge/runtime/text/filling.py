"""Texts with a gap: the tokens that models were trained to fill one by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from nsedge.api import ExtraFile

_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
)
"""What models call them: before what precedes the gap, before what follows it, before its text."""
_REPOSITORIES = (
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<repo_name>",
)
_FILES = ("<|file_sep|>", "<file_sep>")
"""Before the name of a repository, and before that of a file."""
_ENDS = ("<|fim_pad|>", "<fim_pad>", "<fim-pad>", "▁<EOT>", "<EOT>")
"""Behind the text of a gap."""
REPOSITORY = "myproject\n"
THIS_FILE = "filename\n"
"""What llama-server calls them, which are not told."""
SNIPPET = "\n\n--- snippet ---\n\n"
"""Before a file, of a model that has no token for that."""
Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FillTokens:
    """The tokens of one model. repository, file: None where it has none. ends: what ends the text
    of a gap besides the model's own ends: another file's beginning, too, as llama.cpp has it."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None
    file: int | None
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> FillTokens | None:
        """Those of a vocabulary; None where it has none."""
        for names in _NAMES:
            prefix, suffix, middle = map(tokenizer.token_to_id, names)
            if prefix is not None and suffix is not None and middle is not None:
                return cls(
                    prefix=prefix,
                    suffix=suffix,
                    middle=middle,
                    repository=_first(tokenizer, _REPOSITORIES),
                    file=_first(tokenizer, _FILES),
                    ends=tuple(_found(tokenizer, (*_ENDS, *_REPOSITORIES, *_FILES))),
                )
        return None

    def prompt(
        self, before: str, after: str, files: Sequence[ExtraFile], encode: Encode
    ) -> list[int]:
        """The prompt that asks for what stands between two texts; other files come before it, in
        the pattern of a repository (arXiv 2409.12186), as llama-server has it."""
        first, last = encode((before, after))
        gap = [self.prefix, *first, self.suffix, *last, self.middle]
        return [*self._shown(files, encode), *gap] if files else gap

    def _shown(self, files: Sequence[ExtraFile], encode: Encode) -> Iterator[int]:
        if self.repository is not None:
            yield self.repository
            yield from encode((REPOSITORY,))[0]
        for file in files:
            head = SNIPPET if self.file is None else f"{file.name}\n"
            if self.file is not None:
                yield self.file
            for ids in encode((head, file.text)):
                yield from ids
        if self.file is not None:
            yield self.file
            yield from encode((THIS_FILE,))[0]


def _first(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    return next(_found(tokenizer, names), None)


def _found(tokenizer: Tokenizer, names: Sequence[str]) -> Iterator[int]:
    numbers = (tokenizer.token_to_id(name) for name in names)
    return (number for number in numbers if number is not None)
