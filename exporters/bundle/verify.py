"""Check a finished bundle: its files, its golden prompts, and its nearness to fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporters.bundle.package import LINKS, variant_digest
from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.measure.examining import examined
from exporters.measure.fidelity import answers, measure, run_golden
from exporters.measure.runner import TEXT_ROOM, Runner, runner_of
from exporters.measure.thresholds import check_overrides, limits_of
from exporters.measure.verdict import Check, Verdict
from exporters.model.source import read_tokenizer
from exporters.model.texts import (
    TextReader,
    fidelity_passages,
    fidelity_text_sha256,
    prompts_of,
    text_passages,
)
from exporters.quantise.schemes import promise_of
from nsedge.bundle.causal_lm import GoldenPrompt, Variant
from nsedge.bundle.files import sha256_of
from nsedge.bundle.manifest import TextBundle, open_causal_lm
from nsedge.bundle.vision_lm import VisionLm
from nsedge.bundle.vocabulary import check_vocabulary


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to look at, besides hashes, golden prompts and our own text.

    `text` is a file of the user's to measure over, `prompts` one of prompts to answer, each a line;
    `overrides` are limits in the place of those that the bundle was built with.
    """

    text: Path | None = None
    prompts: Path | None = None
    answers: bool = False
    overrides: Mapping[str, float]


def verify_bundle(path: Path, cache: Cache, question: Question) -> Verdict:
    """Check the bundle at `path`; fidelity anew if the fp32 graph it came from is in `cache`.

    Raises:
        BundleInvalid: a file is missing, cut short or altered, or the tokenizer knows a token that
            the model has no row for; the message names it.
        ExportError: the user's text or prompts cannot be read, or there is no fp32 to hold the
            text against.
    """
    bundle = open_causal_lm(path)
    bundle.verify_hashes()
    check_vocabulary(bundle)
    manifest = bundle.manifest
    check_overrides(question.overrides, {variant.name for variant in manifest.variants})
    reference = cache.follow(LINKS, variant_digest(bundle))
    if question.text is not None and reference is None:
        raise ExportError("--text needs the fp32 graph, which is not in the cache: export again")
    examination = _Examination(bundle, reference, question)
    checks, skipped = examined(manifest.variants, examination.check)
    return Verdict(
        name=manifest.name,
        checks=checks,
        skipped=skipped,
        prompts=examination.prompts,
        answers=examination.exact_answers(),
        overrides=examination.overrides,
    )


class _Examination:
    """One bundle and its fp32 graph, where that is at hand, under one question."""

    def __init__(self, bundle: TextBundle, reference: Path | None, question: Question) -> None:
        self._bundle = bundle
        self._reader = reader_of(bundle)
        self._exact = None if reference is None else runner_of(reference)
        self._text = question.text
        self._passages = (
            None if question.text is None else text_passages(self._reader, question.text)
        )
        wanted = question.answers or question.prompts is not None
        self.prompts = prompts_of(question.prompts) if wanted else ()
        self.overrides = {**bundle.manifest.provenance.thresholds, **question.overrides}

    def check(self, variant: Variant) -> Check:
        """Run one variant."""
        manifest = self._bundle.manifest
        runner = Runner(
            self._bundle.file(variant.graph),
            io=variant.io,
            kv=variant.kv,
            capacity=min(manifest.context_length, TEXT_ROOM),
            requires=variant.requires,
        )
        measured, text = None, None
        if self._exact is not None:
            passages = fidelity_passages(self._reader)
            digest = fidelity_text_sha256()
            measured = measure(self._exact, runner, passages, text_sha256=digest)
            if self._text is not None and self._passages is not None:
                digest = sha256_of(self._text)
                text = measure(self._exact, runner, self._passages, text_sha256=digest)
        return Check(
            variant=variant.name,
            limits=limits_of(variant.name, promise_of(variant), self.overrides),
            golden=run_golden(runner, self._bundle.golden("generate", GoldenPrompt)),
            recorded=variant.fidelity,
            measured=measured,
            text=text,
            answers=self._answers(runner),
        )

    def exact_answers(self) -> tuple[str, ...] | None:
        """What fp32 says to the prompts."""
        return None if self._exact is None else self._answers(self._exact)

    def _answers(self, runner: Runner) -> tuple[str, ...]:
        return answers(runner, self._reader, self.prompts, self._bundle.manifest.eos_token_ids)


def reader_of(bundle: TextBundle) -> TextReader:
    """The bundle's tokenizer and template."""
    tokenizer = bundle.manifest.tokenizer
    return TextReader(
        tokenizer=read_tokenizer(bundle.file(tokenizer.file)),
        template=bundle.text(bundle.manifest.chat_template),
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        add_bos=tokenizer.add_bos,
        unk_token=tokenizer.unk_token,
        pad_token=tokenizer.pad_token,
        sees=isinstance(bundle.manifest, VisionLm),
    )
