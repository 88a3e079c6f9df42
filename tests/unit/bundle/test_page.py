"""docs/bundle.md has every field of every kind of manifest, and no other at the top of one."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from nsedge.bundle.caption import (
    Caption,
    CaptionFidelity,
    CaptionVariant,
    GoldenCaption,
    LookerIo,
    Search,
)
from nsedge.bundle.causal_lm import CausalLm, Fidelity, GoldenPrompt, GraphIo, KvLayout, Variant
from nsedge.bundle.conditioning import MemoryIo, MemoryLayout, MemoryOutput
from nsedge.bundle.diffusion import (
    DecoderIo,
    DenoiserIo,
    Diffusion,
    DiffusionComponents,
    GoldenImage,
    ImageFidelity,
    PromptReading,
    TextEncoderIo,
)
from nsedge.bundle.diffusion import (
    EncoderIo as LatentIo,
)
from nsedge.bundle.dual_encoder import (
    DualEncoder,
    GoldenPicture,
    ImageTower,
    ImageTowerIo,
    Likelihood,
    TextTower,
)
from nsedge.bundle.encoder import (
    Encoder,
    EncoderIo,
    EncoderVariant,
    GoldenVector,
    VectorFidelity,
)
from nsedge.bundle.fields import FORMAT, FORMAT_VERSION, Provenance, Tokenizer
from nsedge.bundle.headed import (
    GoldenScores,
    HeadedEncoder,
    HeadIo,
    HeadVariant,
    MaskedLm,
    ScoreFidelity,
    SequenceClassification,
    TokenClassification,
)
from nsedge.bundle.pictures import Crop, PictureSteps, Resize
from nsedge.bundle.scheduler import SchedulerConfig
from nsedge.bundle.speech import (
    GoldenSpeech,
    LogMel,
    Speech,
    SpeechFidelity,
    SpeechTokens,
    SpeechVariant,
)
from nsedge.bundle.vision_lm import VisionLm

PAGE = (Path(__file__).parents[3] / "docs" / "bundle.md").read_text(encoding="utf-8")
MANIFEST = PAGE.partition("## The manifest\n")[2].partition("## Versions\n")[0]
TOLD = {name for code in re.findall(r"`([^`]+)`", MANIFEST) for name in re.split(r"[.\[\]]+", code)}
INNER = (Variant, EncoderVariant, Provenance, Tokenizer, KvLayout, Fidelity, VectorFidelity)
HEADS = (HeadVariant, MaskedLm, SequenceClassification, TokenClassification, ScoreFidelity)
TOWERS = (TextTower, ImageTower, Likelihood, PictureSteps, Resize, Crop)
CAPTION = (CaptionVariant, CaptionFidelity, Search, GoldenCaption)
DIFFUSION = (
    *(DiffusionComponents, TextEncoderIo, DenoiserIo, DecoderIo, LatentIo),
    *(SchedulerConfig, PromptReading, ImageFidelity, GoldenImage),
)
SPEECH = (SpeechVariant, SpeechTokens, LogMel, SpeechFidelity, MemoryLayout, MemoryIo, GoldenSpeech)


@pytest.mark.parametrize(
    "kind",
    [
        CausalLm,
        Encoder,
        HeadedEncoder,
        DualEncoder,
        Speech,
        Caption,
        Diffusion,
        *INNER,
        *HEADS,
        *TOWERS,
        *SPEECH,
        *DIFFUSION,
        *CAPTION,
    ],
)
def test_every_field_is_told(kind: type[msgspec.Struct]) -> None:
    assert set(kind.__struct_fields__) <= TOLD


def test_no_field_is_told_that_a_manifest_does_not_have() -> None:
    kinds = (CausalLm, VisionLm, Encoder, HeadedEncoder, DualEncoder, Speech, Caption, Diffusion)
    known = {"kind"}.union(*(kind.__struct_fields__ for kind in kinds))
    tables = MANIFEST.partition("### The decoder's graph")[0]
    rows = re.findall(r"^\| (`.+?) \|", tables, re.MULTILINE)
    named = {name.split(".")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named - {"device", "scheme"} <= known


def test_inputs_of_graphs_are_told() -> None:
    headed = HeadIo(token_type_ids="token_type_ids", places="places")
    for io in (
        GraphIo(),
        EncoderIo(token_type_ids="token_type_ids"),
        headed,
        ImageTowerIo(),
        LookerIo(memory=MemoryOutput()),
    ):
        names = [name for name in msgspec.structs.astuple(io) if isinstance(name, str)]
        told = MANIFEST.replace(".N.", ".{layer}.").replace("`, `.value`", "`")
        assert all(f"`{name}`" in told for name in names if not name.endswith(".value"))
    assert set(GoldenPicture.__struct_fields__) <= TOLD
    assert {*GoldenVector.__struct_fields__, *GoldenScores.__struct_fields__} <= TOLD | {"rows"}
    assert len(GoldenPrompt.__struct_fields__) == 4  # the page tells of them in words


def test_the_version_is_told() -> None:
    assert (
        f"| `format`, `format_version` | string, integer | `{FORMAT}`, {FORMAT_VERSION} |" in PAGE
    )
