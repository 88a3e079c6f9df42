"""Check a finished bundle: its files, its golden prompts, and its nearness to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporters.cache import Cache
from exporters.fidelity import GoldenResult, measure, run_golden
from exporters.package import variant_digest
from exporters.recipe import LINKS, TEXT_ROOM, runner_of
from exporters.runner import Runner
from exporters.schemes import Promise, promise_of
from exporters.source import read_tokenizer
from exporters.texts import TextReader, fidelity_passages
from nsedge import native
from nsedge.bundle import Bundle, Fidelity, Variant


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found of a variant. `measured` is None where the fp32 graph is not in the cache.

    A lossy scheme promises nothing, so that its golden prompts and fidelity are told, not judged.
    """

    variant: str
    golden: GoldenResult
    promise: Promise | None
    recorded: Fidelity | None
    measured: Fidelity | None

    @property
    def passed(self) -> bool:
        """The hashes match (else there is no `Check`), and what is promised holds."""
        if self.promise is None:
            return True
        fidelity = self.measured or self.recorded
        return self.golden.passed and fidelity is not None and self.promise.kept_by(fidelity)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of a bundle: each variant that runs here, and why others do not."""

    bundle: Path
    files: int
    checks: tuple[Check, ...]
    skipped: dict[str, str]

    @property
    def passed(self) -> bool:
        """Every variant that runs here does, and there is one."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def verify_bundle(path: Path, cache: Cache) -> Verdict:
    """Check the bundle at `path`; fidelity anew if the fp32 graph it came from is in `cache`.

    Raises:
        BundleInvalid: a file is missing, cut short or altered; the message names it.
    """
    bundle = Bundle.open(path)
    bundle.verify_hashes()
    reference = cache.follow(LINKS, variant_digest(bundle))
    checks, skipped = [], {}
    for variant in bundle.manifest.variants:
        lacking = native.missing(variant.requires)
        if lacking is None:
            checks.append(_check(bundle, variant, reference))
        else:
            skipped[variant.name] = lacking
    files = len(bundle.manifest.files)
    return Verdict(bundle=path, files=files, checks=tuple(checks), skipped=skipped)


def _check(bundle: Bundle, variant: Variant, reference: Path | None) -> Check:
    runner = Runner(
        bundle.file(variant.graph),
        io=variant.io,
        kv=variant.kv,
        capacity=min(bundle.manifest.context_length, TEXT_ROOM),
        requires=variant.requires,
    )
    golden = run_golden(runner, bundle.golden())
    measured = None
    if reference is not None:
        passages = fidelity_passages(reader_of(bundle))
        measured = measure(runner_of(reference), runner, passages)
    return Check(
        variant=variant.name,
        golden=golden,
        promise=promise_of(variant),
        recorded=variant.fidelity,
        measured=measured,
    )


def reader_of(bundle: Bundle) -> TextReader:
    """The bundle's tokenizer and template."""
    tokenizer = bundle.manifest.tokenizer
    return TextReader(
        tokenizer=read_tokenizer(bundle.file(tokenizer.file)),
        template=bundle.chat_template(),
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        add_bos=tokenizer.add_bos,
    )
